"""Whose turn it is, on tiny parts: what interrupts, when that is told, and what a reply may be made to be."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conversing import CLIENT, QWEN, ask, context_is_fresh, only, speak, written

from icebreaker.engine.messages import (
    Append,
    AudioDelta,
    ItemTruncated,
    ReplyDone,
    ReplyStarted,
    Respond,
    SessionConfig,
    SpeechIgnored,
    SpeechStarted,
    Tool,
)


def test_speech_that_must_not_interrupt_is_answered_afterwards(
    make_room: Callable[..., Any], question: np.ndarray
) -> None:
    room = make_room(max_text_tokens=60)
    session = room.enter(SessionConfig(turns="silence", interrupt_response=False))
    room.do(session, written("Tell a long story.", "u"), Respond())
    events = room.until(session, AudioDelta)
    speak(room, session, question, events)
    while len(only(events, ReplyDone)) < 2:
        room.tick()
        events += session.outbox.take()
    assert only(events, SpeechStarted), "it was heard all the same"
    assert [event.reply.status for event in only(events, ReplyDone)] != ["cancelled", "cancelled"]
    assert all(event.reply.reason != "turn_detected" for event in only(events, ReplyDone))
    order = [type(event) for event in events if isinstance(event, ReplyDone | ReplyStarted)]
    assert order[-3:] == [ReplyDone, ReplyStarted, ReplyDone]
    assert not only(events, ItemTruncated)
    first, second = (entry for entry in session.live.memory.conversation if entry.item.role == "assistant")
    assert first.heard == len(first.tokens) > 0
    assert second.heard > 0


def test_who_interrupts_is_told_before_anybody_is_computed_for(
    make_room: Callable[..., Any], question: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event that silences a client is out before the stages of the tick in which it was decided."""
    room = make_room(max_text_tokens=200)
    session = room.enter(SessionConfig(turns="silence"))
    room.do(session, written("Tell a long story.", "u"), Respond())
    events = room.until(session, AudioDelta)
    told_before_hearing, hear = [], room.engine.device.hear

    def watched(chunks: Any) -> Any:
        told_before_hearing.append(any(isinstance(event, SpeechStarted) for event in session.outbox._events))
        return hear(chunks)

    monkeypatch.setattr(room.engine.device, "hear", watched)
    for start in range(0, len(question), 160):
        session.push(Append(waveform=question[start : start + 160]))
        room.tick()
        events += session.outbox.take()
        if only(events, SpeechStarted):
            break
    assert told_before_hearing[-1]
    assert not any(told_before_hearing[:-1])


@pytest.mark.parametrize("over_a_reply", [True, False])
def test_who_cuts_a_reply_is_answered_whatever_the_state_head_says(
    make_room: Callable[..., Any], question: np.ndarray, monkeypatch: pytest.MonkeyPatch, over_a_reply: bool
) -> None:
    room = make_room(max_text_tokens=200)
    session = room.enter(SessionConfig(turns="model"))
    think = room.engine.device.think

    def ignoring(rows: list[int]) -> Any:
        probabilities, failed = think(rows)
        heard = session.live.listening.utterance
        meant = heard is not None and heard.confirmed  # until then it may well be told to be nothing
        return dict.fromkeys(probabilities, (0.05, 0.0, 0.95) if meant else (0.9, 0.05, 0.05)), failed

    monkeypatch.setattr(room.engine.device, "think", ignoring)
    events: list[Any] = []
    if over_a_reply:
        room.do(session, written("Tell a long story.", "u"), Respond())
        events = room.until(session, AudioDelta)
    spoken = np.concatenate([question, np.zeros(48000, np.float32)])
    speak(room, session, spoken, events)
    assert bool(only(events, SpeechIgnored)) is not over_a_reply
    reasons = [event.reply.reason for event in only(events, ReplyDone)]
    assert reasons[:1] == (["turn_detected"] if over_a_reply else [])
    assert len(only(events, ReplyStarted)) == (1 if over_a_reply else 0), "the answer to what cut the reply"


def test_a_reply_cut_while_its_end_still_plays_is_told_of(make_room: Callable[..., Any], question: np.ndarray) -> None:
    """All of it was sent and its reply is done; what the user did not hear is taken back, and the client hears so."""
    room = make_room(max_text_tokens=80, lead_s=60.0)  # everything is sent long before it was played
    room.dt = 0.001
    session = room.enter(SessionConfig(turns="silence"))
    events = ask(room, session, "Tell a story.")
    reply = only(events, ReplyDone)[0].reply
    assert reply.status in ("completed", "incomplete")
    assert reply.audio_ms > 1000
    room.dt, later = 0.01, []
    speak(room, session, question[6000:30000], later)  # a hum of a toy: not told from an echo at once
    (cut,) = only(later, ItemTruncated)
    assert cut.item_id == reply.items[0].id
    assert 0 < cut.audio_end_ms < reply.audio_ms
    entry = session.live.memory.find(cut.item_id)
    assert cut.text == entry.item.text
    assert entry.heard < len(entry.tokens)
    assert reply.items[0].text.startswith(cut.text)


def test_a_named_function_is_called_whatever_the_model_would_say(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = room.engine.device.llm
    monkeypatch.setattr(llm.tokenizer, "chat_template", QWEN)
    room.engine._knows_tools = room.engine._layout.knows_tools()
    script = iter(llm.tokenizer.encode('{"zone": "UTC"}}\n</tool_call>'))

    def next_logits(hidden: torch.Tensor) -> torch.Tensor:
        """The model goes on with the arguments: the start of the call was put into its mouth."""
        logits = torch.zeros(*hidden.shape[:-1], llm.vocab_size)
        logits[..., next(script, llm.eos_ids[0])] = 50.0
        return logits

    tools = (Tool(name="clock", description="Tells the time."), Tool(name="weather"))
    session = room.enter(replace(CLIENT, tools=tools, tool_choice="clock", max_output_tokens=200))
    monkeypatch.setattr(llm, "logits", next_logits)
    events = ask(room, session, "Hello.")
    (call,) = only(events, ReplyDone)[0].reply.items
    assert (call.kind, call.name, call.arguments) == ("function_call", "clock", '{"zone": "UTC"}')
    assert not only(events, AudioDelta), "nothing of it is spoken"
    fed = llm.tokenizer.decode(session.live.talking.brief.keys(session.live.talking.speech, room=0))
    assert fed.endswith('<tool_call>\n{"name": "clock", "arguments": ')


@pytest.mark.parametrize("before", [8000, 16000, 20000])
def test_a_reply_asked_for_while_the_user_speaks_leaves_the_speech_whole(
    make_room: Callable[..., Any], question: np.ndarray, before: int
) -> None:
    """The reply is to what was there before; what is being said goes on to be heard, and is read after it."""
    room = make_room(max_text_tokens=12)
    session = room.enter(SessionConfig(turns="silence", create_response=False, interrupt_response=False))
    events: list[Any] = room.do(session, written("Hello.", "u"))
    speak(room, session, question[:before], events)
    session.push(Respond())
    speak(room, session, question[before:], events)
    room.tick(20)
    events += session.outbox.take()
    assert [event.reply.status for event in only(events, ReplyDone)] == ["incomplete"]
    items = [entry.item for entry in session.live.memory.conversation]
    assert {item.role for item in items} == {"user", "assistant"}
    (spoken,) = (entry for entry in session.live.memory.conversation if entry.item.audio_ms and entry.blob)
    assert len(session.live.memory.blobs[spoken.blob]) == pytest.approx(spoken.item.audio_ms / 80, abs=3)
    context_is_fresh(room, session)
