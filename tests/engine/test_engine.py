"""Many conversations over tiny parts: batching, memory, slots, turns, failures. The tests turn the loop themselves."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conversing import CLIENT, QWEN, SPEECH, ask, context_is_fresh, only, said, sound, speak, written

from icebreaker.duplex import DuplexConfig
from icebreaker.engine.messages import (
    AddItem,
    Append,
    AudioDelta,
    AudioDone,
    Cancel,
    Commit,
    Committed,
    Configure,
    DeleteItem,
    Failed,
    Item,
    ItemAdded,
    ItemDeleted,
    ItemTruncated,
    ReplyDone,
    ReplyStarted,
    Respond,
    SessionConfig,
    SpeechIgnored,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    Tool,
    TranscriptDone,
    Truncate,
)
from icebreaker.engine.session import Session
from icebreaker.engine.store import SessionStore
from icebreaker.errors import AdmissionError, SessionNotFound

# Batches.


def test_sessions_together_equal_each_alone(make_room: Callable[..., Any]) -> None:
    """Written and spoken questions, other instructions, other seeds, another start: same text, same sound."""

    def commands(i: int) -> list[Any]:
        return [
            written(f"question {i}", "a"),
            AddItem(item=Item(id="b", role="user"), waveform=SPEECH[: 4000 + 999 * i]),
        ]

    def config(i: int) -> SessionConfig:
        return SessionConfig(turns="client", instructions=f"Rule {i}.", seed=i, temperature=1.3)

    alone = []
    for i in range(3):
        room = make_room()
        session = room.enter(config(i))
        for command in [*commands(i), Respond(), Respond()]:
            session.push(command)
            room.tick(3)
        alone.append(room.until(session, ReplyDone))
    room = make_room()
    sessions = [room.enter(config(i)) for i in range(3)]
    for i, session in enumerate(sessions):
        for command in [*commands(i), Respond()]:
            session.push(command)
        room.tick(2 * i)
    for i, session in enumerate(sessions):
        together = room.until(session, ReplyDone)
        assert said(together) == said(alone[i])
        assert len(said(together)) > 3
        np.testing.assert_allclose(sound(together), sound(alone[i]), atol=1e-4)
        assert len(sound(together)) > 1000
    assert len({said(events) for events in alone}) == 3


def test_thirty_two_sessions_never_leak(make_room: Callable[..., Any]) -> None:
    """Four slots for 32 sessions with different instructions, all at once: each says what it says alone."""
    config = [SessionConfig(turns="client", instructions=f"The secret is {i * 37}.", output="text") for i in range(32)]
    alone = {}
    for i in (0, 9, 31):
        room = make_room()
        alone[i] = said(ask(room, room.enter(config[i]), "Which?"))
    room = make_room(max_sessions=32, slots=4)
    sessions = [room.enter(each) for each in config]
    for session in sessions:
        session.push(written("Which?", "u"))
        session.push(Respond())
    answers = [said(room.until(session, ReplyDone)) for session in sessions]
    for i, text in alone.items():
        assert answers[i] == text
    for i, session in enumerate(sessions):
        keys = session.live.talking.reading(session.live.config, room=0)
        text = room.engine.device.llm.tokenizer.decode(keys)
        assert f"The secret is {i * 37}." in text
        assert text.count("secret") == 1
    for session in sessions[:2]:  # a slot was given away and is taken again: what was read came back with it
        ask(room, session, "Again?")
        context_is_fresh(room, session)


# What the model remembers.


def test_truncation_leaves_the_context_of_what_was_heard(make_room: Callable[..., Any]) -> None:
    room = make_room(max_text_tokens=60, alignment_layers=(0,))
    session = room.enter(CLIENT)
    done = only(ask(room, session, "Speak."), ReplyDone)[0].reply
    entry = session.live.memory.find(done.items[0].id)
    first = next(span for span in entry.spans if span.stop_sample)
    assert first.segment.stop < len(entry.tokens)
    whole = session.live.talking.reading(CLIENT, room=0)
    (cut,) = room.do(session, Truncate(item_id=entry.item.id, audio_end_ms=1000 * first.stop_sample / 24000))
    assert isinstance(cut, ItemTruncated)
    heard = session.live.memory.find(entry.item.id)
    assert heard.heard == first.segment.stop
    assert all(span.words for span in heard.spans if span.stop_sample)
    tokenizer = room.engine.device.llm.tokenizer
    assert cut.text == heard.item.text == tokenizer.decode(entry.tokens[: heard.heard]).strip()
    assert heard.item.status == "incomplete"
    keys = session.live.talking.reading(CLIENT, room=0)
    at = next(i for i, (ours, before) in enumerate(zip(keys, whole, strict=False)) if ours != before)
    assert keys[at - heard.heard : at] == list(entry.tokens[: heard.heard])
    assert keys[at:] == whole[at - heard.heard + len(entry.tokens) :]
    context_is_fresh(room, session)


def test_late_truncation_after_the_next_answer(room: Any) -> None:
    session = room.enter(CLIENT)
    first = only(ask(room, session, "One."), ReplyDone)[0].reply.items[0]
    ask(room, session, "Two.")
    (cut,) = room.do(session, Truncate(item_id=first.id, audio_end_ms=0))
    assert cut.text == ""
    assert len(session.live.talking.reading(CLIENT, room=0)) > 0
    context_is_fresh(room, session)
    (more,) = room.do(session, Truncate(item_id=first.id, audio_end_ms=1e6))  # the client was wrong, and says so
    assert more.text == first.text
    context_is_fresh(room, session)


def test_truncation_while_the_next_answer_is_made(room: Any) -> None:
    """The reply goes on from what the conversation says now; its context is that, and its own tokens."""
    session = room.enter(CLIENT)
    first = only(ask(room, session, "One."), ReplyDone)[0].reply.items[0]
    session.push(written("Two.", "u2"))
    session.push(Respond())
    room.until(session, TextDelta)
    room.do(session, Truncate(item_id=first.id, audio_end_ms=0))
    assert session.live.talking.making
    events = room.until(session, ReplyDone)
    assert only(events, ReplyDone)[0].reply.status in ("completed", "incomplete")
    context_is_fresh(room, session)


def test_deleted_and_inserted_items(room: Any) -> None:
    session = room.enter(CLIENT)
    ask(room, session, "The number is 512.")
    before = session.live.memory.conversation.items[0].id
    deleted, added = room.do(
        session,
        DeleteItem(item_id=before),
        AddItem(item=Item(id="s", role="system", text="Be brief."), previous_item_id="root"),
    )
    assert deleted == ItemDeleted(item_id=before)
    assert isinstance(added, ItemAdded)
    text = room.engine.device.llm.tokenizer.decode(session.live.talking.reading(CLIENT, room=0))
    assert "512" not in text
    assert "Be brief." in text
    context_is_fresh(room, session)


def test_a_reply_beside_the_conversation_leaves_no_trace(room: Any) -> None:
    session = room.enter(CLIENT)
    ask(room, session, "One.")
    items, keys = session.live.memory.conversation.items, session.live.talking.reading(CLIENT, room=0)
    session.push(Respond(in_conversation=False, instructions="Translate.", output="text", response_id="aside"))
    events = room.until(session, ReplyDone)
    assert only(events, ReplyDone)[0].response_id == "aside"
    assert not only(events, AudioDelta)
    assert session.live.memory.conversation.items == items
    assert session.live.talking.reading(CLIENT, room=0) == keys
    context_is_fresh(room, session)


def test_old_turns_are_forgotten_and_the_system_prompt_stays(make_room: Callable[..., Any]) -> None:
    room = make_room(capacity=256, max_text_tokens=12)
    config = replace(CLIENT, instructions="Stay polite.")
    session = room.enter(config)
    for i in range(10):
        session.push(AddItem(item=Item(id=f"s{i}", role="user"), waveform=SPEECH[:5200]))
        events = ask(room, session, f"This is turn {i} of many, and it is long.")
        assert not only(events, Failed)
        assert int(room.engine.device.state.context.length.max()) <= 256
    text = room.engine.device.llm.tokenizer.decode([k for k in session.live.talking.reading(config, room=0) if k >= 0])
    assert "Stay polite." in text
    assert "turn 9" in text
    assert "turn 2 " not in text
    assert len(session.live.memory.conversation) == 30  # the items themselves stay
    assert len(session.live.memory.blobs) < 8


def test_a_model_is_not_given_more_than_it_reads_well(make_room: Callable[..., Any]) -> None:
    room = make_room(context_positions=160, max_text_tokens=12)
    session = room.enter(replace(CLIENT, instructions="Stay polite."))
    read, talking = [], session.live.talking
    for i in range(12):
        ask(room, session, f"This is turn {i} of many.")
        read.append(len(talking.reading(session.live.config, room=0)))
        context_is_fresh(room, session)
    assert 100 < max(read) <= 160
    falls = [now < before for before, now in pairwise(read)]
    assert 1 <= sum(falls) <= 4  # several turns go at a time: what is left is read anew
    assert len(talking.reading(session.live.config, room=0, opening=True)) <= 140  # room for what will be asked
    text = room.engine.device.llm.tokenizer.decode(talking.reading(session.live.config, room=0))
    assert "Stay polite." in text
    assert "turn 11 " in text
    assert "turn 0 " not in text
    room.do(session, Configure(config=replace(CLIENT, instructions="word " * 50)))  # alone it is too much, and stays
    assert only(ask(room, session, "Hello."), ReplyDone)[0].reply.status != "failed"
    text = room.engine.device.llm.tokenizer.decode(talking.reading(session.live.config, room=0))
    assert text.count("word") == 50
    assert "Hello." in text
    assert "turn 11 " not in text


def test_what_can_never_fit_is_refused(make_room: Callable[..., Any]) -> None:
    room = make_room(capacity=256)
    session = room.enter(replace(CLIENT, instructions="word " * 100))
    events = ask(room, session, "Hello.")
    assert only(events, Failed)[0].code == "conversation_full"
    assert only(events, ReplyDone)[0].reply.status == "failed"
    room.do(session, Configure(config=CLIENT))
    assert only(ask(room, session, "Hello."), ReplyDone)[0].reply.status != "failed"


# Turns.


def test_the_model_says_from_where_its_head_is_believed(room: Any) -> None:
    session = room.enter(SessionConfig(turns="model"))
    own = room.engine.device.duplex
    assert own == DuplexConfig()  # the model of these tests names no other
    assert session.live.listening.attention.patience.take == own.take_threshold < 1
    assert room.engine.device.dialogue.settings.duplex.take_threshold == 1.0  # the dialogue itself takes no turn


@pytest.mark.parametrize(("turns", "silence_ms"), [("silence", 500), ("model", 1600)])
def test_a_spoken_turn(room: Any, question: np.ndarray, turns: str, silence_ms: float) -> None:
    """The silence that ends it is the client's, or the longest for a head that never leans to taking the turn."""
    session = room.enter(SessionConfig(turns=turns))  # type: ignore[arg-type]
    device = room.engine.device
    device.duplex = replace(device.duplex, take_threshold=1.0, ignore_threshold=1.0)
    events: list[Any] = []
    speak(room, session, question, events)
    if not only(events, ReplyDone):
        events += room.until(session, ReplyDone)
    names = list(dict.fromkeys(type(event).__name__ for event in events))
    assert names[:5] == ["SpeechStarted", "SpeechStopped", "Committed", "ItemAdded", "ReplyStarted"]
    started, stopped = only(events, SpeechStarted)[0], only(events, SpeechStopped)[0]
    assert 450 < started.at_ms < 750
    speech_end = 500 + 1270
    assert speech_end - 300 < stopped.at_ms - silence_ms < speech_end + 200
    item = only(events, ItemAdded)[0].item
    assert started.item_id == stopped.item_id == item.id
    assert item.audio_ms == pytest.approx(stopped.at_ms - started.at_ms + 300, abs=40)
    context_is_fresh(room, session)


def test_listening_feeds_the_model_as_it_goes(room: Any) -> None:
    """When the turn ends, all but what follows the speech is in the cache: nothing is read again."""
    session = room.enter(CLIENT)
    session.push(Append(waveform=SPEECH[:7680]))
    room.tick(5)
    slot = session.live.slot
    length = int(room.engine.device.state.context.length[slot.index])
    assert length == len(slot.keys) > 6
    events = room.do(session, Commit(item_id="mine"))
    assert [type(event) for event in events] == [Committed, ItemAdded]
    session.push(Respond())
    room.tick()
    assert int(room.engine.device.state.context.length[slot.index]) - length < 30
    keys = session.live.talking.reading(CLIENT, room=0)
    assert keys[:length] == slot.keys[:length]


def test_barge_in_stops_and_keeps_what_was_played(make_room: Callable[..., Any], question: np.ndarray) -> None:
    room = make_room(max_text_tokens=200, ahead_s=2.0)
    session = room.enter(SessionConfig(turns="silence"))
    session.push(written("Tell a long story.", "u"))
    session.push(Respond())
    events = room.until(session, AudioDelta)
    speak(room, session, question[:30000], events)
    done = only(events, ReplyDone)[0].reply
    assert (done.status, done.reason) == ("cancelled", "turn_detected")
    order = [type(event) for event in events if isinstance(event, SpeechStarted | ReplyDone)]
    assert order == [SpeechStarted, ReplyDone]
    entry = session.live.memory.find(done.items[0].id)
    assert 0 < entry.heard < len(entry.tokens)
    decode = room.engine.device.llm.tokenizer.decode
    assert done.items[0].text == entry.item.text == decode(entry.tokens[: entry.heard]).strip()
    assert room.engine.loop.totals["barge_ins"] == 1
    stopped = events.index(only(events, ReplyDone)[0])
    assert not only(events[stopped:], AudioDelta)
    speak(room, session, question[30000:], events)
    assert only(events, Committed)
    context_is_fresh(room, session)


def test_a_cough_does_not_interrupt(make_room: Callable[..., Any], question: np.ndarray) -> None:
    room = make_room(max_text_tokens=200)
    session = room.enter(SessionConfig(turns="model"))
    room.do(session, written("Tell a long story.", "u"), Respond())
    events = room.until(session, AudioDelta)
    speak(room, session, np.concatenate([question[10000:13200], np.zeros(16000, np.float32)]), events)
    assert not only(events, SpeechStarted)
    assert not only(events, SpeechIgnored)
    assert session.live.listening.utterance is None
    assert only([*events, *room.until(session, ReplyDone)], ReplyDone)[0].reply.status in ("completed", "incomplete")


def test_cancel_takes_one_tick(make_room: Callable[..., Any]) -> None:
    room = make_room(max_text_tokens=200)
    session = room.enter(CLIENT)
    room.do(session, written("Tell a long story.", "u"), Respond())
    room.until(session, AudioDelta)
    events = room.do(session, Cancel(), Cancel())
    assert [type(event) for event in events] == [TranscriptDone, AudioDone, ReplyDone, Failed]
    assert only(events, ReplyDone)[0].reply.reason == "client_cancelled"
    assert events[-1].code == "no_active_reply"
    room.tick(20)
    assert session.outbox.take() == []
    context_is_fresh(room, session)


def test_silence_makes_the_assistant_speak_once(room: Any) -> None:
    session = room.enter(SessionConfig(idle_timeout_ms=2000))
    ask(room, session, "Hello.")
    events = room.until(session, ReplyStarted)
    assert len(only(events, ReplyStarted)) == 1
    room.until(session, ReplyDone)
    room.dt = 0.2
    room.tick(100)
    assert not only(session.outbox.take(), ReplyStarted)


# Sharing.


def test_admission_is_refused_and_a_left_session_makes_room(make_room: Callable[..., Any]) -> None:
    room = make_room(max_sessions=2)
    first, _ = room.enter(CLIENT), room.enter(CLIENT)
    with pytest.raises(AdmissionError, match="all 2 sessions are taken"):
        room.enter(CLIENT)
    room.engine._lobby.leave(first.id, room.now)
    third = room.enter(CLIENT)
    assert said(ask(room, third, "Hello."))
    with pytest.raises(SessionNotFound):
        room.enter(CLIENT, resume=first.id)
    assert room.engine.stats().refused == 1
    assert room.engine.stats().sessions == 2


def test_a_long_talker_cannot_starve_others(make_room: Callable[..., Any]) -> None:
    """It gets no further ahead than it may, and meanwhile others get their first sound within a few ticks."""
    room = make_room(max_text_tokens=400, ahead_s=1.5)
    talker, guest = room.enter(CLIENT), room.enter(replace(CLIENT, max_output_tokens=12))
    room.do(talker, written("Tell a long story.", "u"), Respond())
    room.until(talker, AudioDelta)
    room.tick(60)
    lead = talker.live.valve.playback(room.now).lead_ms
    assert lead < 1500 + 400  # a step's codes and what the codec held back come at once
    for i in range(3):
        guest.push(written("Hello.", f"g{i}"))
        guest.push(Respond())
        for ticks in count(1):  # noqa: B007 - read below
            room.tick()
            events = guest.outbox.take()
            if only(events, AudioDelta):
                break
        assert ticks <= 6
        if not only(events, ReplyDone):  # so short a reply can be whole at once
            room.until(guest, ReplyDone)
    assert talker.live.talking.under_way
    assert room.engine.stats().underruns == 0


def test_more_conversations_than_slots(make_room: Callable[..., Any]) -> None:
    room = make_room(slots=2, max_sessions=6)
    sessions = [room.enter(CLIENT) for _ in range(6)]
    for session in sessions:
        session.push(written("Hello.", "u"))
        session.push(Respond())
    for session in sessions:
        assert sound(room.until(session, ReplyDone)).size


def test_one_failing_conversation_fails_alone(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = room.enter(CLIENT), room.enter(CLIENT)
    for session in (good, bad):
        room.do(session, written("Hello.", "u"), Respond())
    room.tick(2)
    dialogue, think = room.engine.device.dialogue, room.engine.device.dialogue.think
    poisoned = bad.live.slot.index

    def failing(state: Any, rows: Any = None, longest: Any = None) -> Any:
        if poisoned in rows:
            raise RuntimeError("poison")
        return think(state, rows, longest)

    monkeypatch.setattr(dialogue, "think", failing)
    assert only(room.until(good, ReplyDone), ReplyDone)[0].reply.status in ("completed", "incomplete")
    events = bad.outbox.take()
    assert only(events, ReplyDone)[0].reply.status == "failed"
    assert "poison" in only(events, Failed)[0].message
    monkeypatch.undo()
    assert only(ask(room, bad, "Once more?"), ReplyDone)[0].reply.status in ("completed", "incomplete")
    context_is_fresh(room, bad)


def test_what_a_template_refuses_is_told_and_survived(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session = room.enter(CLIENT)
    monkeypatch.setattr(room.engine.device.llm.tokenizer, "chat_template", "{{ raise_exception('never') }}")
    session.push(Append(waveform=SPEECH))
    room.tick(3)
    (failed,) = session.outbox.take()
    assert failed.code == "invalid"
    assert "never" in failed.message
    monkeypatch.undo()
    assert said(ask(room, session, "Hello."))


def test_an_utterance_ends_where_the_memory_does(make_room: Callable[..., Any]) -> None:
    room = make_room(capacity=256)
    session = room.enter(CLIENT)
    session.push(Append(waveform=np.tile(SPEECH, 40)))  # 22 s: 281 positions
    events = room.until(session, Committed)
    assert not only(events, Failed)
    assert int(room.engine.device.state.context.length.max()) <= 256


def test_overflow_is_told_once(room: Any) -> None:
    session = room.enter(SessionConfig())
    minute = np.zeros(16000 * 61, np.float32)
    for _ in range(4):
        session.push(Append(waveform=minute))
    (failed,) = session.outbox.take()
    assert failed.code == "queue_overflow"
    room.tick(400)
    session.push(Append(waveform=minute[:160]))
    assert session.outbox.take() == []


def test_bad_sound_is_named(room: Any) -> None:
    session = room.enter(CLIENT)
    session.push(Append(waveform=np.full(100, np.nan, np.float32)))
    session.push(Append(waveform=np.zeros((2, 100), np.float32)))
    nan, shape = session.outbox.take()
    assert "NaN" in nan.message
    assert "[S]" in shape.message


# Coming back.


def test_resume_after_leaving_and_after_a_kill(make_room: Callable[..., Any], tmp_path: Path) -> None:
    store = SessionStore(tmp_path)
    room = make_room(store=store)
    session = room.enter(CLIENT)
    session.push(AddItem(item=Item(id="spoken", role="user"), waveform=SPEECH))
    done = only(ask(room, session, "And this."), ReplyDone)[0].reply
    memory = session.live.memory
    spans = memory.find(done.items[0].id).spans
    memory.set_spans(done.items[0].id, tuple(replace(span, words=((1, 5), (2, 9))) for span in spans))
    session.live.changed = True
    keys = session.live.talking.reading(CLIENT, room=0)
    items = memory.conversation.items
    room.engine._lobby.leave(session.id, room.now)
    again = room.enter(CLIENT, resume=session.id)
    room.tick()
    assert [event.item for event in again.outbox.take()] == list(items)
    room.engine._writer.submit(int).result()  # as far as the disk is concerned, the process is killed now

    other = make_room(store=SessionStore(tmp_path))
    revived = other.enter(CLIENT, resume=session.id)
    assert [event.item for event in revived.outbox.take()] == list(items)
    assert _readable(revived, other) == _readable(session, room)
    assert len(revived.live.talking.reading(CLIENT, room=0)) == len(keys)
    entry = revived.live.memory.find(done.items[0].id)
    assert entry.spans == session.live.memory.find(done.items[0].id).spans
    assert entry.spans[0].words == ((1, 5), (2, 9))
    ours, theirs = (s.live.memory.blobs[s.live.memory.find("spoken").blob] for s in (revived, session))
    assert torch.equal(ours, theirs)
    assert said(ask(other, revived, "Go on.")) == said(ask(room, again, "Go on."))
    with pytest.raises(SessionNotFound):
        other.enter(CLIENT, resume="../../etc")


def _readable(session: Session, room: Any) -> str:
    return str(
        room.engine.device.llm.tokenizer.decode([k for k in session.live.talking.reading(CLIENT, room=0) if k >= 0])
    )


def test_the_thread_and_the_event_loop(make_room: Callable[..., Any]) -> None:
    """The real thing: sessions entered, left, resumed and drained from an event loop."""

    async def test() -> None:
        engine = make_room().engine
        engine._clock = engine.loop._clock = __import__("time").monotonic
        async with engine.session(CLIENT) as session:
            session.push(written("Hello.", "u"))
            session.push(Respond(max_output_tokens=8))
            events = []
            async for event in session.events():
                events.append(event)
                if isinstance(event, ReplyDone):
                    break
            assert said(events)
            assert sound(events).size
        async with engine.session(CLIENT, resume=session.id) as again:
            async for event in again.events():
                assert event.item.id == "u"  # type: ignore[union-attr]
                break
            await engine.drain(0.2)
            assert len([event async for event in again.events()]) == 1  # the answer's item; then it is closed
        with pytest.raises(AdmissionError, match="shutting down"):
            async with engine.session(CLIENT):
                pass

    asyncio.run(asyncio.wait_for(test(), 60))


# Functions.


def test_a_function_is_called_and_its_output_read(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scripted LLM writes a call: it is not spoken, becomes an item, and what it gives is read by the model."""
    llm = room.engine.device.llm
    monkeypatch.setattr(llm.tokenizer, "chat_template", QWEN)
    room.engine._knows_tools = room.engine._layout.knows_tools()
    assert room.engine._knows_tools
    script = iter(
        llm.tokenizer.encode('Wait. <tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>')
    )

    def next_logits(hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*hidden.shape[:-1], llm.vocab_size)
        logits[..., next(script, llm.eos_ids[0])] = 50.0
        return logits

    tool = Tool(name="clock", description="Tells the time.", parameters={"type": "object"})
    session = room.enter(SessionConfig(turns="client", tools=(tool,), max_output_tokens=200))
    monkeypatch.setattr(llm, "logits", next_logits)
    events = ask(room, session, "What time is it?")
    assert said(events).strip() == "Wait."
    message, call = only(events, ReplyDone)[0].reply.items
    assert (message.text, call.kind, call.name, call.arguments) == (
        "Wait.",
        "function_call",
        "clock",
        '{"zone": "UTC"}',
    )
    assert [event.item.kind for event in only(events, ItemAdded)][-1] == "function_call"
    output = Item(id="out", kind="function_call_output", call_id=call.call_id, text="noon")
    room.do(session, AddItem(item=output))
    text = llm.tokenizer.decode(session.live.talking.reading(session.live.config, room=0))
    assert "Tells the time." in text
    assert text.index("Wait.") < text.index('"zone"') < text.index("<tool_response>noon")
    context_is_fresh(room, session)


def test_tools_for_a_template_that_knows_none(room: Any) -> None:
    session = room.enter(replace(CLIENT, tools=(Tool(name="clock"),)))
    room.tick()
    (failed,) = session.outbox.take()
    assert failed.code == "tools_unsupported"
    assert only(ask(room, session, "Hello."), ReplyDone)[0].reply.status in ("completed", "incomplete")
