"""Whoever is much fainter than the user has been does not interrupt, unless he goes on and on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conversing import only, speak, written

from icebreaker.engine import listening
from icebreaker.engine.loudness import FAINT_DB, Loudness
from icebreaker.engine.messages import AudioDelta, ReplyDone, Respond, SessionConfig, SpeechStarted

SILENCE = np.zeros(16000, np.float32)


def windows(level_db: float, count: int = 10) -> list[np.ndarray]:
    return [np.full(512, 10 ** (level_db / 20), np.float32)] * count


def hear(loudness: Loudness, level_db: float) -> None:
    loudness.forget()
    for window in windows(level_db):
        loudness.hear(window)


def test_faint_is_what_is_far_below_the_users_turns() -> None:
    loudness = Loudness()
    hear(loudness, -60.0)
    assert not loudness.is_faint, "nobody knows the user yet"
    hear(loudness, -20.0)
    loudness.was_the_user()
    assert loudness.usual_db == pytest.approx(-20.0, abs=0.01)
    for below_db, faint in ((FAINT_DB - 0.5, False), (FAINT_DB + 0.5, True)):
        hear(loudness, -20.0 - below_db)
        assert loudness.is_faint == faint
    loudness.forget()
    assert not loudness.is_faint


def test_who_moves_away_is_followed() -> None:
    loudness = Loudness()
    hear(loudness, -20.0)
    loudness.was_the_user()
    hear(loudness, -30.0)
    assert loudness.is_faint
    loudness.was_the_user()  # he was heard for all that
    assert loudness.usual_db == pytest.approx(-25.0, abs=0.01)
    assert not loudness.is_faint
    loudness.forget()
    loudness.was_the_user()  # a turn without a voiced window, as of a client that says itself when it is over
    assert loudness.usual_db == pytest.approx(-25.0, abs=0.01)


@pytest.mark.parametrize(
    ("gain_db", "times", "interrupts"),
    [(-FAINT_DB / 2, 1, True), (-1.5 * FAINT_DB, 1, False), (-1.5 * FAINT_DB, 2, True)],
)
def test_somebody_at_the_back_does_not_interrupt(
    make_room: Callable[..., Any],
    question: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    gain_db: float,
    times: int,
    interrupts: bool,
) -> None:
    monkeypatch.setattr(listening, "NONSENSE_MS", 600.0)  # the tiny model's replies are short
    room = make_room(max_text_tokens=160)
    session = room.enter(SessionConfig(turns="silence", silence_ms=300))
    events: list[Any] = []
    speak(room, session, np.concatenate([question, SILENCE]), events)
    events += room.until(session, ReplyDone)
    session.push(written("Tell a long story.", "u"))
    session.push(Respond())
    events += room.until(session, AudioDelta)
    speak(room, session, SILENCE, events)
    assert session.live.talking.audible(room.now)
    assert len(only(events, SpeechStarted)) == 1
    onset = int(np.flatnonzero(np.abs(question) > 0.02)[0])
    said = np.tile(question[onset : onset + 10000], times) * np.float32(10 ** (gain_db / 20))
    speak(room, session, said, events)
    reasons = [event.reply.reason for event in only(events, ReplyDone)[1:]]
    assert reasons == (["turn_detected"] if interrupts else [])
    assert len(only(events, SpeechStarted)) == 1 + interrupts
