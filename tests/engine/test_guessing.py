"""Replies that are begun before the turn is decided: nobody can tell, but by the clock."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conversing import context_is_fresh, only, said, sound, speak

from icebreaker.engine.engine import Engine, EngineConfig
from icebreaker.engine.messages import (
    Append,
    AudioDelta,
    ClearAudio,
    Commit,
    Configure,
    ReplyDone,
    ReplyStarted,
    Respond,
    SessionConfig,
    SpeechStarted,
    TextDelta,
)
from icebreaker.talking import load_dialogue

PAUSE = np.zeros(8800, np.float32)  # 550 ms: long enough to guess, too short to be the end


def converse(room: Any, config: SessionConfig, waveform: np.ndarray) -> tuple[Any, list[Any]]:
    """Say something, and listen to the end of the answer."""
    device = room.engine.device  # a head that never takes the turn
    device.duplex = replace(device.duplex, take_threshold=1.0, ignore_threshold=1.0)
    session = room.enter(config)
    events: list[Any] = []
    speak(room, session, waveform, events)
    if not only(events, ReplyDone):
        events += room.until(session, ReplyDone)
    return session, events


def same(events: list[Any], others: list[Any]) -> None:
    """The same things happened in the same order, the same was said, and it sounds the same."""
    pieces = AudioDelta | TextDelta  # may be larger or smaller
    told, expected = ([type(e) for e in some if not isinstance(e, pieces)] for some in (events, others))
    assert told == expected
    assert said(events) == said(others) != ""
    assert len(sound(events)) == len(sound(others)) > 0
    np.testing.assert_allclose(sound(events), sound(others), atol=1e-5)
    for one, other in zip(only(events, ReplyDone), only(others, ReplyDone), strict=True):
        assert one.reply.usage == other.reply.usage
        assert [item.text for item in one.reply.items] == [item.text for item in other.reply.items]


@pytest.mark.parametrize(("turns", "lean"), [("silence", 0.3), ("model", 0.0)])
def test_a_guess_that_was_right_is_early_and_nothing_else(
    make_room: Callable[..., Any], question: np.ndarray, turns: str, lean: float
) -> None:
    guessing, waiting = make_room(lean=lean, max_text_tokens=40), make_room(lean=None, max_text_tokens=40)
    config = SessionConfig(turns=turns, temperature=1.2)  # type: ignore[arg-type]
    session, events = converse(guessing, config, question)
    _, others = converse(waiting, config, question)
    same(events, others)
    (done,), (late,) = only(events, ReplyDone), only(others, ReplyDone)
    assert done.reply.latency_ms["first sound"] == 0, "it was there when the turn was decided"
    assert late.reply.latency_ms["first sound"] >= 0
    totals = guessing.engine.loop.totals
    assert (totals["guesses"], totals["good_guesses"], totals["replies"]) == (1, 1, 1)
    assert waiting.engine.loop.totals["guesses"] == 0
    context_is_fresh(guessing, session)


def test_who_goes_on_hears_nothing_of_a_guess(make_room: Callable[..., Any], question: np.ndarray) -> None:
    waveform = np.concatenate([question[:20000], PAUSE, question[8000:]])
    guessing, waiting = make_room(lean=0.3, max_text_tokens=40), make_room(lean=None, max_text_tokens=40)
    config = SessionConfig(turns="silence", silence_ms=700, temperature=1.2)
    session, events = converse(guessing, config, waveform)
    _, others = converse(waiting, config, waveform)
    same(events, others)
    totals = guessing.engine.loop.totals
    assert totals["guesses"] >= 2
    assert (totals["good_guesses"], totals["replies"]) == (1, 1)
    assert len(only(events, ReplyStarted)) == len(only(events, SpeechStarted)) == 1
    context_is_fresh(guessing, session)


@pytest.mark.parametrize("how", ["clear", "configure", "commit", "respond", "leave"])
def test_whatever_else_happens_a_guess_leaves_no_trace(
    make_room: Callable[..., Any], question: np.ndarray, how: str
) -> None:
    room = make_room(lean=0.3, max_text_tokens=12)
    config = SessionConfig(turns="silence", silence_ms=2000)
    session = room.enter(config)
    events: list[Any] = []
    for start in range(0, len(question), 160):
        session.push(Append(waveform=question[start : start + 160]))
        room.tick()
        events += session.outbox.take()
        if session.live.talking.guessing.guess is not None:
            break
    assert [type(event) for event in events] == [SpeechStarted]
    room.tick(3)
    match how:
        case "clear":
            session.push(ClearAudio())
        case "configure":
            session.push(Configure(config=replace(config, instructions="Be brief.")))
        case "commit":
            session.push(Commit())
        case "respond":
            session.push(Respond())
        case "leave":
            session.live.leave(room.now)
    room.tick(4)
    events += session.outbox.take()
    assert session.live.talking.guessing.guess is None
    assert len(only(events, ReplyStarted)) == int(how == "respond")
    if how == "respond":
        events += room.until(session, ReplyDone)
    context_is_fresh(room, session)


class Clock:
    def __init__(self) -> None:
        self.now_s = 5.0

    def __call__(self) -> float:
        return self.now_s


def test_mini_says_the_same_sooner(question: np.ndarray) -> None:
    """The bundled model: the same words and samples with and without guessing, by the thresholds it ships with."""
    dialogue, told = load_dialogue("mini", None), {}
    for lean in (0.25, None):
        clock = Clock()
        engine = Engine(dialogue, EngineConfig(slots=1, lean=lean), clock=clock)
        session = engine.enter(SessionConfig(turns="silence"))
        events: list[Any] = []
        for start in range(0, len(question), 640):
            session.push(Append(waveform=question[start : start + 640]))
            engine.loop.tick()
            clock.now_s += 0.04
            events += session.outbox.take()
        while not only(events, ReplyDone):
            engine.loop.tick()
            clock.now_s += 0.04
            events += session.outbox.take()
        told[lean] = events
        assert engine.loop.totals["good_guesses"] == int(lean is not None)
    same(told[0.25], told[None])
    assert said(told[None]).startswith("Two plus three is ")
