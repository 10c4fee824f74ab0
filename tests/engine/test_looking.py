"""The state head is asked as soon as the user falls silent, not at the end of a chunk, and nothing of it stays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conversing import only, speak

from icebreaker.engine.hearing import EARLY_MS
from icebreaker.engine.messages import Committed, SessionConfig

SILENCE = np.zeros(16000, np.float32)


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Make a room's state head say ``verdict``, at the end of chunks or always; returns the silences it spoke in."""

    def say(room: Any, session: Any, verdict: tuple[float, float, float], *, looks: bool) -> list[float]:
        think, foresee, silences = room.engine.device.think, room.engine.device.foresee, list[float]()

        def judged(probabilities: dict[int, Any]) -> dict[int, Any]:
            silences.extend(session.live.listening.attention.ear.quiet_ms for _ in probabilities)
            return dict.fromkeys(probabilities, verdict)

        def thought(rows: list[int]) -> Any:
            probabilities, failed = think(rows)
            return (judged(probabilities) if not looking else probabilities), failed

        def foreseen(chunks: dict[int, torch.Tensor]) -> Any:
            if not looks:
                return {}, room.engine.device.state
            looking.append(True)
            probabilities, after = foresee(chunks)
            looking.clear()
            return judged(probabilities), after

        looking = list[bool]()
        monkeypatch.setattr(room.engine.device, "think", thought)
        monkeypatch.setattr(room.engine.device, "foresee", foreseen)
        return silences

    return say


@pytest.mark.parametrize("lead", [0, 700, 1400, 2100])
def test_a_turn_does_not_wait_for_the_end_of_a_chunk(
    make_room: Callable[..., Any], question: np.ndarray, verdicts: Any, lead: int
) -> None:
    """Wherever the chunks lie, the user's silence is as long as it has to be, and no longer."""
    ended = {}
    for looks in (True, False):
        room = make_room()
        session = room.enter(SessionConfig(turns="model"))
        silences = verdicts(room, session, (0.0, 1.0, 0.0), looks=looks)
        sound, events = np.concatenate([SILENCE[:lead], question, SILENCE]), list[Any]()
        session.live.listening.judge_chunk = _only_in_silence(session.live.listening)
        for start in range(0, len(sound), 160):
            speak(room, session, sound[start : start + 160], events)
            if only(events, Committed):
                break
        assert len(only(events, Committed)) == 1
        ended[looks] = silences[-1]
    assert EARLY_MS <= ended[True] <= EARLY_MS + 32
    assert ended[True] <= ended[False]


def test_what_was_only_foreseen_is_forgotten(
    make_room: Callable[..., Any], question: np.ndarray, verdicts: Any
) -> None:
    """A user who pauses in the middle is heard as if nobody had asked meanwhile, value for value."""
    heard, asked = [], []
    for looks in (True, False):
        room = make_room()
        session = room.enter(SessionConfig(turns="model"))
        silences = verdicts(room, session, (1.0, 0.0, 0.0), looks=looks)
        middle = len(question) // 2
        sound = np.concatenate([question[:middle], SILENCE[:6400], question[middle:], SILENCE, SILENCE])
        events = list[Any]()
        speak(room, session, sound, events)
        assert len(only(events, Committed)) == 1
        heard.append(session.live.memory.blobs[next(iter(session.live.memory.conversation)).blob])
        asked.append(len(silences))
    assert asked[0] > asked[1], "nobody looked ahead, so this compares nothing"
    assert torch.equal(heard[0], heard[1])


def test_the_look_that_ends_a_turn_is_its_last_chunk(
    make_room: Callable[..., Any], question: np.ndarray, verdicts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is heard twice, and what is kept is what hearing it again would give, value for value."""
    kept, heard = [], []
    for again in (True, False):
        room = make_room()
        session = room.enter(SessionConfig(turns="model"))
        verdicts(room, session, (0.0, 1.0, 0.0), looks=True)
        session.live.listening.judge_chunk = _only_in_silence(session.live.listening)
        if again:
            monkeypatch.setattr(room.engine.device, "came_true", lambda after: None)
            monkeypatch.setattr(session.live.intake, "look_came_true", lambda: None)
        hear, ends = room.engine.device.hear, list[bool]()

        def counted(chunks: dict[int, torch.Tensor], hear: Any = hear, ends: Any = ends, session: Any = session) -> Any:
            ends.extend(session.live.listening.ending for _ in chunks)
            return hear(chunks)

        monkeypatch.setattr(room.engine.device, "hear", counted)
        sound, events = np.concatenate([question, 1e-3 * question[:16000]]), list[Any]()
        for start in range(0, len(sound), 160):
            speak(room, session, sound[start : start + 160], events)
            if only(events, Committed):
                break
        assert len(only(events, Committed)) == 1
        heard.append(sum(ends))
        kept.append(session.live.memory.blobs[next(iter(session.live.memory.conversation)).blob])
    assert heard == [1, 0], "chunks heard after the turn had ended"
    assert torch.equal(kept[0], kept[1])


def _only_in_silence(listening: Any) -> Callable[..., None]:
    """``judge_chunk`` but for verdicts that would take the turn of somebody who is still speaking."""
    judge = type(listening).judge_chunk

    def judged(probabilities: Any, now_s: float) -> None:
        if listening.attention.ear.quiet_ms >= EARLY_MS:
            judge(listening, probabilities, now_s)

    return judged
