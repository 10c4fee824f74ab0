"""With a language model a turn is read again, as tokens, when it is over: in the memory, the guess and the store."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conversing import CLIENT, context_is_fresh, only, said, sound, speak
from tiny_parts import with_second_pass

from icebreaker.dialogue import Parts
from icebreaker.engine.keys import blob_keys
from icebreaker.engine.memory import Remembered
from icebreaker.engine.messages import (
    AddItem,
    Append,
    AudioDelta,
    Commit,
    Item,
    ReplyDone,
    Respond,
    SessionConfig,
    SpeechStarted,
    Transcribed,
)
from icebreaker.engine.store import SessionStore
from icebreaker.models.ctc_search import CTCSearchConfig

Rooms = Callable[..., Any]


@pytest.fixture(scope="module")
def reading(parts: Parts) -> Parts:
    parts = replace(parts, settings=replace(parts.settings, transcribe=True))
    return with_second_pass(parts)


def of_user(session: Any) -> Remembered:
    entries = [each for each in session.live.memory.conversation if each.item.role == "user"]
    return entries[-1]  # type: ignore[no-any-return]


def ask(room: Any, session: Any, waveform: np.ndarray) -> list[Any]:
    session.push(Append(waveform=waveform))
    session.push(Commit())
    session.push(Respond())
    return room.until(session, ReplyDone)


def test_a_turn_is_remembered_as_its_tokens(make_room: Rooms, reading: Parts, question: np.ndarray) -> None:
    room = make_room(of=reading, lean=None)
    session = room.enter(replace(CLIENT, transcribe=True))
    events = ask(room, session, question)
    events += [] if only(events, Transcribed) else room.until(session, Transcribed)
    entry = of_user(session)
    assert entry.tokens
    assert (entry.blob, entry.heard) == (0, len(entry.tokens))
    assert not session.live.memory.blobs, "no vectors are kept of what has become tokens"
    tokenizer = room.engine.device.llm.tokenizer
    assert only(events, Transcribed)[-1].text == tokenizer.decode(entry.tokens).strip()
    keys = session.live.talking.reading(session.live.config, room=0)
    assert not any(key < 0 for key in keys), "it reads as if it had been written: no prompts, no speech"
    assert any(keys[i : i + len(entry.tokens)] == list(entry.tokens) for i in range(len(keys)))
    context_is_fresh(room, session)


def test_the_same_is_understood_however_it_arrives(make_room: Rooms, reading: Parts, question: np.ndarray) -> None:
    found = []
    for pieces in (1, 40):
        room = make_room(of=reading, lean=None)
        session = room.enter(CLIENT)
        for piece in np.array_split(question, pieces):
            session.push(Append(waveform=piece))
            room.tick()
        session.push(Commit())
        session.push(Respond())
        room.until(session, ReplyDone)
        found.append(of_user(session).tokens)
    assert found[0] == found[1] != ()


def test_a_guess_reads_it_again_too(make_room: Rooms, reading: Parts, question: np.ndarray) -> None:
    told = []
    for lean in (0.0, None):
        room = make_room(of=reading, lean=lean)
        room.engine.device.duplex = replace(room.engine.device.duplex, take_threshold=1.0, ignore_threshold=1.0)
        session = room.enter(SessionConfig(turns="silence", temperature=1.2))
        events: list[Any] = []
        speak(room, session, question, events)
        events += [] if only(events, ReplyDone) else room.until(session, ReplyDone)
        told.append((of_user(session).tokens, said(events), sound(events), room.engine.loop.totals["good_guesses"]))
        context_is_fresh(room, session)
    (tokens, text, wave, guesses), (tokens2, text2, wave2, none) = told
    assert (guesses, none) == (1, 0)
    assert tokens == tokens2 != ()
    assert text == text2
    np.testing.assert_allclose(wave, wave2, atol=1e-5)


def test_it_is_stored_and_goes_on_elsewhere(
    make_room: Rooms, reading: Parts, question: np.ndarray, tmp_path: Path
) -> None:
    one, two = (make_room(of=reading, lean=None, store=SessionStore(tmp_path)) for _ in range(2))
    session = one.enter(CLIENT)
    ask(one, session, question)
    tokens = of_user(session).tokens
    one.engine._writer.submit(int).result()  # all is on disk
    again = two.enter(CLIENT, resume=session.id)
    assert of_user(again).tokens == tokens != ()
    ask(two, again, question)
    context_is_fresh(two, again)


def test_ears_that_hear_nothing_leave_their_vectors(make_room: Rooms, reading: Parts, question: np.ndarray) -> None:
    settings = replace(reading.settings, second_pass=CTCSearchConfig(weight=0.0, bonus=-1e6))
    room = make_room(of=replace(reading, settings=settings), lean=None)
    session = room.enter(CLIENT)
    ask(room, session, question)
    entry = of_user(session)
    assert entry.tokens == ()
    keys = session.live.talking.reading(session.live.config, room=0)
    first = blob_keys(entry.blob, 0, 1)[0]
    assert first in keys
    context_is_fresh(room, session)


def interrupted(make_room: Rooms, parts: Parts, waveform: np.ndarray) -> tuple[list[bool], list[Any], int]:
    """Speech over a long answer: whether it was held in each 10 ms, what was told, and when the user was believed."""
    room = make_room(of=parts, lean=None, max_text_tokens=400, capacity=1024)
    device = room.engine.device  # its head was never trained
    device.duplex = replace(device.duplex, take_threshold=1.0, ignore_threshold=1.0)
    session = room.enter(SessionConfig(turns="model"))
    session.push(AddItem(item=Item(id="u", role="user", text="Tell a long story.")))
    session.push(Respond())
    events = room.until(session, AudioDelta)
    speak(room, session, np.zeros(32000, np.float32), events)
    assert session.live.echo.certain
    held, believed = [], -1
    for start in range(0, len(waveform), 160):
        session.push(Append(waveform=waveform[start : start + 160]))
        room.tick()
        events += session.outbox.take()
        held.append(session.live.valve.is_held)
        if believed < 0 and only(events, SpeechStarted):
            believed = 10 * len(held)
    return held, events, believed


def test_what_makes_no_sense_interrupts_late_or_never(make_room: Rooms, reading: Parts, question: np.ndarray) -> None:
    voiced = question[slice(*np.flatnonzero(np.abs(question) > 0.02)[[0, -1]])]
    silence = np.zeros(8000, np.float32)
    short, on_and_on = np.concatenate([voiced, silence]), np.concatenate([*[voiced] * 5, silence])
    sense, nonsense = (replace(reading, settings=replace(reading.settings, least_sense=x)) for x in (-1e9, 1e9))
    _, _, at_once = interrupted(make_room, reading, short)
    _, _, believed = interrupted(make_room, sense, short)
    assert 500 < at_once < believed < 1100, "it is believed when the ears, who go by chunks, have heard enough of it"
    held, events, never = interrupted(make_room, nonsense, short)
    assert never < 0
    assert not [event for event in events if isinstance(event, ReplyDone) and event.reply.status == "cancelled"]
    assert 20 <= sum(held) <= 80, "it listens for a moment, and then goes on over it"
    assert not any(held[-30:])
    _, _, in_the_end = interrupted(make_room, nonsense, on_and_on)
    assert in_the_end > at_once + 2000
