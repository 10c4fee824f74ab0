"""The engine without a model keeps the promises of the real one."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from icebreaker.engine.messages import (
    AddItem,
    Append,
    AudioDelta,
    Cancel,
    Commit,
    Committed,
    DeleteItem,
    Failed,
    Item,
    ItemAdded,
    ItemDeleted,
    ItemTruncated,
    ReplyDone,
    Respond,
    SessionConfig,
    SessionEvent,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    Truncate,
)  # fmt: skip
from icebreaker.engine.scripted import ScriptedEngine, ScriptedSession
from icebreaker.errors import AdmissionError, SessionNotFound

CLIENT = SessionConfig(turns="client")
SPEECH = 0.3 * np.sin(np.arange(16000) / 5).astype(np.float32)
SILENCE = np.zeros(16000, np.float32)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))  # type: ignore[arg-type]


async def until(session: ScriptedSession, kind: type) -> list[SessionEvent]:
    events = []
    async for event in session.events():
        events.append(event)
        if isinstance(event, kind):
            return events
    raise AssertionError(f"no {kind.__name__} in {events}")


def kinds(events: list[SessionEvent]) -> list[str]:
    return list(dict.fromkeys(type(event).__name__ for event in events))


def test_a_spoken_turn_gives_every_event_in_order() -> None:
    async def test() -> None:
        async with ScriptedEngine().session(SessionConfig()) as session:
            session.push(Append(waveform=np.concatenate([SILENCE, SPEECH, SILENCE])))
            events = await until(session, ReplyDone)
            assert kinds(events) == [
                "SpeechStarted", "SpeechStopped", "Committed", "ItemAdded", "Transcribed", "ReplyStarted", "TextDelta",
                "AudioDelta", "TranscriptDone", "AudioDone", "ReplyDone",
            ]  # fmt: skip
            started = next(event for event in events if isinstance(event, SpeechStarted))
            assert started.at_ms == pytest.approx(1000, abs=21)
            stopped = next(event for event in events if isinstance(event, SpeechStopped))
            assert stopped.at_ms == pytest.approx(2400, abs=21)
            sound = np.concatenate([event.waveform for event in events if isinstance(event, AudioDelta)])
            text = "".join(event.text for event in events if isinstance(event, TextDelta))
            assert text.startswith("You said: speech of 1.")
            assert len(sound) == pytest.approx(len(text) * 0.06 * 24000, abs=30)

    run(test)


def test_text_in_text_out_and_commit_by_the_client() -> None:
    async def test() -> None:
        async with ScriptedEngine().session(CLIENT) as session:
            session.push(AddItem(item=Item(id="a", role="user", text="good day")))
            session.push(Respond(response_id="r1", output="text"))
            events = await until(session, ReplyDone)
            assert not any(isinstance(event, AudioDelta) for event in events)
            assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "You said: good day"
            session.push(Commit())
            session.push(Append(waveform=SPEECH))
            session.push(Commit(item_id="b"))
            events = await until(session, Committed)
            assert isinstance(events[0], Failed)
            assert events[0].code == "empty_audio"
            assert isinstance(events[-1], Committed)
            assert events[-1].item_id == "b"

    run(test)


def test_cancel_then_respond_at_once_and_truncate() -> None:
    async def test() -> None:
        engine = ScriptedEngine(lambda items, config: "one two three four five six seven", delta_s=0.01)
        async with engine.session(CLIENT) as session:
            session.push(Respond(response_id="r1"))
            events = await until(session, AudioDelta)
            session.push(Cancel())
            session.push(Respond(response_id="r2"))
            session.push(Respond(response_id="r3"))
            events += await until(session, Failed)
            cancelled = next(event for event in events if isinstance(event, ReplyDone))
            assert (cancelled.reply.status, cancelled.reply.reason) == ("cancelled", "client_cancelled")
            assert events[-1].code == "already_replying"  # type: ignore[union-attr]
            done = (await until(session, ReplyDone))[-1]
            assert isinstance(done, ReplyDone)
            session.push(Truncate(item_id=done.reply.items[0].id, audio_end_ms=8 * 60))
            cut = (await until(session, ItemTruncated))[-1]
            assert isinstance(cut, ItemTruncated)
            assert cut.text == "one two"

    run(test)


def test_barge_in_keeps_what_was_played() -> None:
    async def test() -> None:
        async with ScriptedEngine(lambda items, config: "alpha beta " * 30).session(SessionConfig()) as session:
            session.push(Respond())
            done = (await until(session, ReplyDone))[-1]
            assert isinstance(done, ReplyDone)
            await asyncio.sleep(0.5)
            session.push(Append(waveform=SPEECH))
            await until(session, SpeechStarted)
            kept = session.conversation.find(done.reply.items[0].id).item
            assert kept.status == "incomplete"
            assert kept.text.startswith("alpha")  # 0.3 s of it, in whole words
            assert len(kept.text) < len("alpha beta " * 20)  # all of it takes 20 s
            assert kept.text.endswith(("alpha", "beta"))

    run(test)


def test_items_are_deleted_and_unknown_ones_named() -> None:
    async def test() -> None:
        async with ScriptedEngine().session(CLIENT) as session:
            session.push(AddItem(item=Item(id="a", role="user", text="x")))
            session.push(AddItem(item=Item(id="b", role="user", text="y"), previous_item_id="root"))
            events = await until(session, ItemAdded) + await until(session, ItemAdded)
            assert [event.previous_item_id for event in events if isinstance(event, ItemAdded)] == [None, None]
            session.push(DeleteItem(item_id="b"))
            session.push(DeleteItem(item_id="b"))
            events = await until(session, Failed)
            assert events[0] == ItemDeleted(item_id="b")
            assert "'b'" in events[-1].message  # type: ignore[union-attr]

    run(test)


def test_refusing_resuming_and_draining() -> None:
    async def test() -> None:
        engine = ScriptedEngine(max_sessions=1)
        async with engine.session(CLIENT) as session:
            session.push(AddItem(item=Item(id="a", role="user", text="x")))
            with pytest.raises(AdmissionError, match="all 1 sessions are taken"):
                await engine.session(CLIENT).__aenter__()
        async with engine.session(CLIENT, resume=session.id) as again:
            assert again.id == session.id
            (event,) = await until(again, ItemAdded)
            assert event == ItemAdded(item=Item(id="a", role="user", text="x"), previous_item_id=None)
        with pytest.raises(SessionNotFound, match="start a new one"):
            await engine.session(CLIENT, resume="nobody").__aenter__()
        async with engine.session(CLIENT) as other:  # takes the place of the one that was left
            assert other.id != session.id
            await engine.drain()
            assert [event async for event in other.events()] == []
        with pytest.raises(AdmissionError, match="shutting down"):
            await engine.session(CLIENT).__aenter__()
        assert engine.stats().refused == 2

    run(test)
