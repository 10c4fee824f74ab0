import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from small_realtime import SmallRealtime

from icebreaker.client.remote import RemoteEngine, realtime_url
from icebreaker.engine import messages as m
from icebreaker.errors import ServerError

TONE = (0.5 * np.sin(np.arange(4800) / 9)).astype(np.float32)  # 300 ms


@pytest.fixture
def server() -> Iterator[SmallRealtime]:
    with SmallRealtime().running() as running:
        yield running


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8000", "ws://localhost:8000/v1/realtime?model=m"),
        ("https://api.example.com/v1/", "wss://api.example.com/v1/realtime?model=m"),
        ("wss://h/x/realtime?model=other", "wss://h/x/realtime?model=other"),
    ],
)
def test_addresses(url: str, expected: str) -> None:
    assert realtime_url(url, "m") == expected


@pytest.mark.parametrize("url", ["", "ftp://h", "http://"])
def test_no_address(url: str) -> None:
    with pytest.raises(ServerError, match="expected a server such as"):
        realtime_url(url, "m")


async def one_turn(engine: RemoteEngine) -> list[m.SessionEvent]:
    events = []
    async with engine.session(m.SessionConfig(turns="client")) as session:
        session.push(m.Append(waveform=TONE))
        session.push(m.Commit())
        session.push(m.Respond())
        async for event in session.events():
            events.append(event)
            if isinstance(event, m.ReplyDone):
                break
    return events


def test_a_question_is_answered(server: SmallRealtime) -> None:
    events = asyncio.run(one_turn(RemoteEngine(server.address)))
    sound = np.concatenate([event.waveform for event in events if isinstance(event, m.AudioDelta)])
    assert len(sound) == 24_000 * 600 // 1000
    assert np.abs(sound).max() == pytest.approx(0.3, abs=0.01)
    assert [event.text for event in events if isinstance(event, m.TextDelta)] == ["the capital of france is paris"]
    assert [event.text for event in events if isinstance(event, m.Transcribed)] == ["what is the capital of france"]
    done = events[-1]
    assert isinstance(done, m.ReplyDone)
    assert (done.reply.status, done.reply.audio_ms) == ("completed", 600.0)


def test_a_key_is_shown_to_the_server_alone() -> None:
    with SmallRealtime(api_key="sesame").running() as server:
        engine = RemoteEngine(server.address, api_key="sesame")
        assert "sesame" not in repr(engine)
        assert asyncio.run(one_turn(engine))
        with pytest.raises(ServerError, match="refused with status 401"):
            asyncio.run(one_turn(RemoteEngine(server.address, api_key="wrong")))


def test_a_lost_server_is_one_error(server: SmallRealtime) -> None:
    server.drop_after = [2]
    with pytest.raises(ServerError, match="went away in the middle: code 1011 dropped on purpose"):
        asyncio.run(one_turn(RemoteEngine(server.address)))
    assert asyncio.run(one_turn(RemoteEngine(server.address)))


def test_no_server() -> None:
    with pytest.raises(ServerError, match="cannot connect"):
        asyncio.run(one_turn(RemoteEngine("ws://127.0.0.1:9", patience_s=2)))
