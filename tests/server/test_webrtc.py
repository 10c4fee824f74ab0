import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, AudioResampler
from served import Served, serving, tone

from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.engine.scripted_answer import MS_PER_LETTER

ANSWER = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
RATE = 48_000
JSON = dict[str, Any]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(lambda: ScriptedEngine(lambda items, config: ANSWER, delta_s=0.01, max_sessions=2)) as server:
        yield server


class Microphone(MediaStreamTrack):
    """Silence, but for what it is told to say."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.start, self.count = time.monotonic(), 0
        self.speech = np.zeros(0, np.float32)

    async def recv(self) -> AudioFrame:
        await asyncio.sleep(max(0.0, self.start + self.count * 0.02 - time.monotonic()))
        now, self.speech = self.speech[:960], self.speech[960:]
        pcm = (np.pad(now, (0, 960 - len(now))) * 32767).astype(np.int16)
        frame = AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), self.count * 960
        self.count += 1
        return frame


class Caller:
    """A WebRTC client in this process; its sound and its events go over UDP on the loopback."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.peer.createDataChannel("oai-events")
        self.microphone = Microphone()
        self.peer.addTrack(self.microphone)
        self.events: list[JSON] = []
        self.sound: list[np.ndarray] = []
        self.changed = asyncio.Event()
        self.location = self.session_id = ""
        self.channel.on("message", self._hear_event)
        self.peer.on("track", lambda track: setattr(self, "task", asyncio.ensure_future(self._hear_sound(track))))

    def _hear_event(self, message: str) -> None:
        self.events.append(json.loads(message))
        self.changed.set()

    async def _hear_sound(self, track: MediaStreamTrack) -> None:
        resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
        while True:
            try:
                frames = resampler.resample(await track.recv())  # type: ignore[arg-type]
            except MediaStreamError:
                return
            self.sound += [frame.to_ndarray()[0] for frame in frames]

    def say(self, kind: str, **fields: Any) -> None:
        self.channel.send(json.dumps({"type": kind, **fields}))

    def ask(self) -> None:
        part = {"type": "input_text", "text": "count"}
        self.say("conversation.item.create", item={"type": "message", "role": "user", "content": [part]})
        self.say("response.create")

    def of(self, kind: str) -> list[JSON]:
        return [event for event in self.events if event["type"] == kind]

    async def until(self, kind: str, count: int = 1) -> JSON:
        async with asyncio.timeout(20):
            while len(self.of(kind)) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.of(kind)[count - 1]

    def loud_ms(self) -> float:
        """How long the engine's tone was heard in all."""
        sound = np.concatenate(self.sound or [np.zeros(0, np.int16)])
        blocks = np.abs(sound[: len(sound) // 240 * 240].reshape(-1, 240).astype(int)).max(1)
        return 5.0 * int((blocks > 1500).sum())


@asynccontextmanager
async def call(
    served: Served, session: JSON | None = None, resume: str | None = None, key: str | None = None
) -> AsyncIterator[Caller]:
    caller = Caller()
    await caller.peer.setLocalDescription(await caller.peer.createOffer())
    offer = caller.peer.localDescription.sdp
    try:
        async with httpx.AsyncClient(timeout=20) as http:
            if session is None:
                sent: JSON = {"content": offer, "headers": {"content-type": "application/sdp"}}
            else:
                sent = {"files": {"sdp": (None, offer), "session": (None, json.dumps(session))}}
            if key is not None:
                sent["headers"] = {**sent.get("headers", {}), "authorization": f"Bearer {key}"}
            params = {} if resume is None else {"session_id": resume}
            answer = await http.post(f"{served.http}/v1/realtime/calls", params=params, **sent)
        assert answer.status_code == 201, answer.text
        caller.session_id = answer.headers["x-session-id"]
        assert answer.headers["content-type"].startswith("application/sdp")
        caller.location = answer.headers["location"]
        await caller.peer.setRemoteDescription(RTCSessionDescription(sdp=answer.text, type="answer"))
        await caller.until("session.created")
        yield caller
    finally:
        await caller.peer.close()


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_spoken_question_is_answered_aloud(served: Served) -> None:
    async def talk() -> None:
        async with call(served) as caller:
            assert re.fullmatch(r"/v1/realtime/calls/rtc_[0-9a-f]{32}", caller.location)
            caller.microphone.speech = tone(600, RATE)
            await caller.until("input_audio_buffer.speech_started")
            await caller.until("input_audio_buffer.committed")
            started = await caller.until("output_audio_buffer.started")
            stopped = await caller.until("output_audio_buffer.stopped")
            done = await caller.until("response.done")
            assert started["response_id"] == stopped["response_id"] == done["response"]["id"]
            assert done["response"]["output"][0]["content"][0]["transcript"] == ANSWER
            assert caller.of("response.output_audio.delta") == [], "the sound is in the track"
            await asyncio.sleep(0.5)
            assert caller.loud_ms() == pytest.approx(len(ANSWER) * MS_PER_LETTER, rel=0.15)
            heard = caller.of("conversation.item.added")[0]["item"]
            assert heard["role"] == "user"

    run(talk)


def test_speech_cuts_the_answer_to_what_was_sent(served: Served) -> None:
    async def talk() -> None:
        async with call(served) as caller:
            caller.ask()
            await caller.until("output_audio_buffer.started")
            await asyncio.sleep(1.0)
            caller.microphone.speech = tone(400, RATE)
            cleared = await caller.until("output_audio_buffer.cleared")
            truncated = await caller.until("conversation.item.truncated")
            assert cleared["response_id"] == caller.of("response.created")[0]["response"]["id"]
            assert 300 < truncated["audio_end_ms"] < len(ANSWER) * MS_PER_LETTER
            caller.say("conversation.item.retrieve", item_id=truncated["item_id"])
            kept = (await caller.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
            limit = int(truncated["audio_end_ms"] / MS_PER_LETTER)
            assert ANSWER.startswith(kept)
            assert limit - 12 < len(kept) <= limit

    run(talk)


def test_the_client_stops_the_sound_itself(served: Served) -> None:
    async def talk() -> None:
        async with call(served) as caller:
            caller.ask()
            await caller.until("output_audio_buffer.started")
            await asyncio.sleep(0.6)
            caller.say("response.cancel")
            caller.say("output_audio_buffer.clear")
            await caller.until("output_audio_buffer.cleared")
            truncated = await caller.until("conversation.item.truncated")
            await asyncio.sleep(0.4)
            before = caller.loud_ms()
            await asyncio.sleep(0.4)
            assert caller.loud_ms() == before, "silence"
            assert before == pytest.approx(truncated["audio_end_ms"], abs=150)

    run(talk)


def test_a_session_in_the_form_holds_from_the_start(served: Served) -> None:
    async def talk() -> None:
        session = {"type": "realtime", "instructions": "Count.", "output_modalities": ["text"]}
        async with call(served, session) as caller:
            created = caller.of("session.created")[0]["session"]
            assert (created["instructions"], created["output_modalities"]) == ("Count.", ["text"])
            caller.ask()
            done = await caller.until("response.done")
            assert done["response"]["output"][0]["content"][0]["text"] == ANSWER

    run(talk)


def test_hanging_up_gives_the_place_back(served: Served) -> None:
    async def talk() -> None:
        async with call(served) as caller, httpx.AsyncClient() as http:
            assert served.engine.stats().sessions >= 1
            assert (await http.post(f"{served.http}{caller.location}/hangup")).status_code == 200
            async with asyncio.timeout(10):
                while served.engine.stats().sessions:
                    await asyncio.sleep(0.05)
            assert (await http.post(f"{served.http}{caller.location}/hangup")).status_code == 404

    run(talk)


async def told(caller: Caller) -> list[str]:
    """The ids of all items that a caller has been told of, once as many as there are have come."""
    await asyncio.sleep(0.3)
    return [event["item"]["id"] for event in caller.of("conversation.item.added")]


@pytest.mark.parametrize("hung", [False, True])
def test_a_call_that_was_cut_off_goes_on_by_its_session(served: Served, hung: bool) -> None:
    """With its settings and its items, whether the server has noticed the loss or not."""

    async def talk() -> None:
        session = {"type": "realtime", "instructions": "Count.", "output_modalities": ["text"]}
        async with call(served, session) as lost:
            assert lost.session_id == lost.of("session.created")[0]["session"]["id"]
            lost.say("session.update", session={"type": "realtime", "max_output_tokens": 77})
            lost.ask()
            done = await lost.until("response.done")
            before = await told(lost)
            assert len(before) == 2
            if not hung:  # the peer is gone without a word: no packet comes any more
                await lost.peer.sctp.transport.transport.stop()
            async with call(served, resume=lost.session_id) as back:
                assert back.session_id == lost.session_id
                created = back.of("session.created")[0]["session"]
                assert (created["id"], created["instructions"]) == (lost.session_id, "Count.")
                assert (created["output_modalities"], created["max_output_tokens"]) == (["text"], 77)
                await back.until("conversation.item.added", 2)
                assert back.events[0]["type"] == "session.created"
                assert await told(back) == before
                answer = done["response"]["output"][0]["id"]
                back.say("conversation.item.retrieve", item_id=answer)
                kept = (await back.until("conversation.item.retrieved"))["item"]["content"][0]
                assert kept["text"] == ANSWER
                async with asyncio.timeout(10):
                    while served.engine.stats().sessions != 1:
                        await asyncio.sleep(0.05)
                back.ask()
                assert (await back.until("response.done"))["response"]["status"] == "completed"

    run(talk)


def test_a_call_goes_on_as_a_websocket_and_back(served: Served) -> None:
    async def talk() -> None:
        async with call(served, {"type": "realtime", "instructions": "Count."}) as first:
            first.ask()
            await first.until("response.done")
            session_id = first.session_id
        with served.talk(url=f"{served.url}&session_id={session_id}") as between:
            created = between.until("session.created")
            assert created["session"]["instructions"] == "Count."
            between.until("conversation.item.added")
        async with call(served, resume=session_id) as last:
            await last.until("conversation.item.added", 2)

    run(talk)


def test_nobody_takes_over_a_call_that_is_not_theirs() -> None:
    async def talk() -> None:
        with serving(ScriptedEngine, api_keys=("mine", "yours")) as guarded:
            async with call(guarded, key="mine") as caller, httpx.AsyncClient() as http:
                for session_id, key in ((caller.session_id, "yours"), ("nobody", "mine")):
                    answer = await http.post(
                        f"{guarded.http}/v1/realtime/calls", params={"session_id": session_id}, content="v=0",
                        headers={"content-type": "application/sdp", "authorization": f"Bearer {key}"},
                    )  # fmt: skip
                    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "session_not_found")
                caller.ask()
                await caller.until("response.done")

    run(talk)


def test_a_full_server_refuses_a_call(served: Served) -> None:
    with served.talk() as first, served.talk() as second:
        first.until("session.created")
        second.until("session.created")
        caller_offer = "v=0\r\n"
        answer = httpx.post(
            f"{served.http}/v1/realtime/calls", content=caller_offer, headers={"content-type": "application/sdp"}
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_full")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"content": "hello", "headers": {"content-type": "application/sdp"}}, 400, "invalid_offer"),
        ({"content": "v=0\r\n", "headers": {"content-type": "application/sdp"}}, 400, "invalid_offer"),
        ({"json": {"sdp": "v=0"}}, 415, "unsupported_media_type"),
        ({"files": {"session": (None, "{}")}}, 400, "missing_required_parameter"),
        ({"files": {"sdp": (None, "v=0"), "session": (None, "{")}}, 400, "invalid_json"),
        ({"files": {"sdp": (None, "v=0"), "session": (None, '{"type": 3}')}}, 400, "invalid_type"),
        ({"content": b"x" * 300_000, "headers": {"content-type": "application/sdp"}}, 413, "offer_too_long"),
    ],
)
def test_what_is_no_offer_is_named(served: Served, sent: JSON, status: int, code: str) -> None:
    answer = httpx.post(f"{served.http}/v1/realtime/calls", **sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "expected" in answer.json()["error"]["message"]


def test_a_call_needs_the_key() -> None:
    with serving(ScriptedEngine, api_keys=("secret",)) as guarded:
        answer = httpx.post(f"{guarded.http}/v1/realtime/calls", content="v=0")
        assert answer.status_code == 401


def test_without_the_extra_the_server_says_what_to_install(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icebreaker.server.webrtc.has_webrtc", lambda: False)
    answer = httpx.post(f"{served.http}/v1/realtime/calls", content="v=0")
    assert answer.status_code == 501
    assert "icebreaker-speech[webrtc]" in answer.json()["error"]["message"]
