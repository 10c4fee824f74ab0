"""Our client and our server over a real socket, with a scripted engine: what was meant arrives."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from served import Served, serving

from icebreaker.client.asking import ask_aloud, ask_in_writing, transcript_of
from icebreaker.client.remote import RemoteEngine
from icebreaker.engine import messages as m
from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.errors import ServerError

ANSWER = "The capital of France is Paris, a city of two million."
SPOKEN = (0.3 * np.sin(np.arange(8000) / 9)).astype(np.float32)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(lambda: ScriptedEngine(lambda items, config: ANSWER), api_keys=("sesame",)) as served:
        yield served


@pytest.fixture
def engine(server: Served) -> RemoteEngine:
    return RemoteEngine(server.http, "sesame")


def test_in_writing_and_aloud(engine: RemoteEngine) -> None:
    config = m.SessionConfig(turns="client", output="text")
    assert asyncio.run(ask_in_writing(engine, config, "What?", 10)).text == ANSWER
    for config in (m.SessionConfig(turns="client"), m.SessionConfig(turns="silence", silence_ms=300)):
        answer = asyncio.run(ask_aloud(engine, config, SPOKEN, paced=False, patience_s=10))
        assert answer.text == ANSWER
        assert len(answer.waveform) > 24_000
        assert answer.ended_by == ("end of file" if config.turns == "client" else "turn head")
    assert isinstance(asyncio.run(transcript_of(engine, SPOKEN, 10)), str)


def test_a_cut_answer_is_remembered_as_far_as_it_was_heard(engine: RemoteEngine) -> None:
    async def cut() -> list[m.SessionEvent]:
        events = []
        async with engine.session(m.SessionConfig(turns="client")) as session:
            session.push(m.AddItem(item=m.Item(id="q", role="user", text="What?")))
            session.push(m.Respond())
            async for event in session.events():
                events.append(event)
                if isinstance(event, m.ReplyDone):
                    (item,) = event.reply.items
                    session.push(m.Truncate(item_id=item.id, audio_end_ms=900))
                if isinstance(event, m.ItemTruncated):
                    return events
        return events

    kept = asyncio.run(cut())[-1]
    assert isinstance(kept, m.ItemTruncated)
    assert kept.audio_end_ms == 900
    assert kept.text
    assert ANSWER.startswith(kept.text)
    assert len(kept.text) < len(ANSWER)


def test_function_calls_go_both_ways() -> None:
    call = m.Item(id="", kind="function_call", name="weather", arguments='{"city": "Oslo"}', call_id="c1")

    def script(items: list[m.Item], config: m.SessionConfig) -> str | m.Item:
        outputs = [item.text for item in items if item.kind == "function_call_output"]
        return f"It is {outputs[-1]}." if outputs else call

    async def talk(engine: RemoteEngine) -> tuple[m.Item, str]:
        tool = m.Tool(name="weather", parameters={"type": "object"})
        async with engine.session(m.SessionConfig(turns="client", output="text", tools=(tool,))) as session:
            session.push(m.AddItem(item=m.Item(id="q", role="user", text="How is the weather?")))
            session.push(m.Respond())
            called: m.Item | None = None
            async for event in session.events():
                if isinstance(event, m.ReplyDone):
                    if called is not None:
                        return called, event.reply.items[0].text
                    (called,) = event.reply.items
                    output = m.Item(id="o", kind="function_call_output", call_id=called.call_id, text="sunny")
                    session.push(m.AddItem(item=output))
                    session.push(m.Respond())
        raise AssertionError("the session ended early")

    with serving(lambda: ScriptedEngine(script)) as served:
        called, text = asyncio.run(talk(RemoteEngine(served.url)))
    assert (called.kind, called.name, called.arguments) == ("function_call", "weather", '{"city": "Oslo"}')
    assert text == "It is sunny."


def test_refusals_say_why(server: Served) -> None:
    with pytest.raises(ServerError, match="refused with status 401"):
        asyncio.run(transcript_of(RemoteEngine(server.http, "wrong"), SPOKEN, 5))

    async def two(engine: RemoteEngine) -> None:
        async with engine.session(m.SessionConfig()), engine.session(m.SessionConfig()):
            pass

    with serving(lambda: ScriptedEngine(max_sessions=1)) as full, pytest.raises(ServerError, match="refused with"):
        asyncio.run(two(RemoteEngine(full.http, patience_s=3)))
