"""One WebRTC call: tracks and the ``oai-events`` channel around a ``Conversation``. Needs the extra ``webrtc``."""

import asyncio
import contextlib
import fractions
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, AudioResampler

from icebreaker.audio.fbank import SAMPLE_RATE
from icebreaker.audio.pcm import pcm_to_waveform
from icebreaker.engine import messages as m
from icebreaker.engine.interface import EngineLike, SessionLike
from icebreaker.errors import ProtocolError
from icebreaker.server.bucket import Bucket
from icebreaker.server.config import ServerConfig
from icebreaker.server.conversation import Conversation
from icebreaker.server.fields import JSON
from icebreaker.server.settings import Settings
from icebreaker.server.webrtc_queue import FRAME_SAMPLES, TRACK_RATE, SpeechQueue

__all__ = ["Call"]

logger = logging.getLogger(__name__)

CHANNEL = "oai-events"
FRAME_S = FRAME_SAMPLES / TRACK_RATE
CONNECT_S = 20.0  # from the answer until the client's first packet
MOST_EARLY = 5000  # events: the items of a resumed session are told before its channel opens
OVERFLOW_S = 5.0  # of messages ahead of the limit: no client needs that


class VoiceTrack(MediaStreamTrack):
    """The assistant's voice: a frame every 20 ms, of speech or silence. ``onframe`` is called after each."""

    kind = "audio"

    def __init__(self, queue: SpeechQueue, onframe: Callable[[], None]) -> None:
        super().__init__()
        self._queue, self._onframe = queue, onframe
        self._start: float | None = None
        self._frames = 0

    async def recv(self) -> AudioFrame:
        """The next frame, when its time has come."""
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        self._start = now if self._start is None else self._start
        await asyncio.sleep(max(0.0, self._start + self._frames * FRAME_S - now))
        frame = AudioFrame.from_ndarray(self._queue.frame()[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base = TRACK_RATE, fractions.Fraction(1, TRACK_RATE)
        frame.pts = self._frames * FRAME_SAMPLES
        self._frames += 1
        self._onframe()
        return frame


class Call:
    """From a client's offer until somebody hangs up.

    Args:
        engine: what speaks.
        config: limits.
        session: the engine's side of the conversation.
        settings: what the conversation begins with.
        updated: is given the settings whenever the client has changed them.
    """

    def __init__(
        self, engine: EngineLike, config: ServerConfig, session: SessionLike, settings: Settings,
        updated: Callable[[Settings], None],
    ) -> None:  # fmt: skip
        self.config, self.session = config, session
        self.over = asyncio.Event()
        self.reason = "hung up"
        self.conversation = Conversation(
            session, settings, self._say, sample_rate=engine.sample_rate, model=engine.model_name,
            expires_at=int(time.time() + config.max_session_s), max_uncommitted_s=config.max_uncommitted_s,
            clear_output=self._clear, updated=updated,
        )  # fmt: skip
        self._queue = SpeechQueue(engine.sample_rate)
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._channel: RTCDataChannel | None = None
        self._early: deque[JSON] = deque(maxlen=MOST_EARLY)  # what was said before there was a channel
        self._messages = Bucket(config.messages_per_s, config.message_burst, time.monotonic())
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, offer: str) -> str:
        """The answer (SDP) to an offer (SDP).

        Raises:
            ProtocolError: it is no offer of a call with sound.
        """
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        except Exception as error:  # aiortc raises whatever its parser stumbles over
            raise _wrong_offer(f"{type(error).__name__}: {error}"[:200]) from error
        if not any(each.kind == "audio" for each in self._peer.getTransceivers()):
            raise _wrong_offer("it has no audio line")
        self._peer.addTrack(VoiceTrack(self._queue, self._tell_marks))
        self._peer.on("datachannel", self._opened)
        self._peer.on("connectionstatechange", self._changed)
        for receiver in self._peer.getReceivers():
            if receiver.track.kind == "audio":
                self._start(self._hear(receiver.track))
        await self._peer.setLocalDescription(await self._peer.createAnswer())
        return str(self._peer.localDescription.sdp)

    async def run(self) -> None:
        """Talk until the call is over."""
        self._start(self._listen())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_S):
                    await self._connected()
                async with asyncio.timeout(self.config.max_session_s):
                    await self.over.wait()
            if not self.over.is_set():
                self.reason = "session expired" if self._peer.connectionState == "connected" else "never connected"
        finally:
            await self.close()

    async def close(self) -> None:
        """End the call and all its tasks."""
        self.over.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._peer.close()

    def end(self, reason: str) -> None:
        """Let ``run`` come to its end; the first reason counts."""
        if not self.over.is_set():
            self.reason = reason
        self.over.set()

    async def _connected(self) -> None:
        while self._peer.connectionState != "connected" and not self.over.is_set():
            await asyncio.sleep(0.02)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except Exception:  # our own bug: this call ends, the server goes on
            logger.exception("internal error in a call")
            self.end("internal error")

    # The channel of events.

    def _opened(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL or self._channel is not None:
            return
        self._channel = channel
        channel.on("message", self._receive)
        channel.on("close", lambda: self.end("client gone"))
        self.conversation.begin()
        while self._early:
            self._say(self._early.popleft())

    def _receive(self, message: str | bytes) -> None:
        if len(message) > self.config.max_message_bytes:
            self.end("message too big")
        elif self._messages.take(1, time.monotonic()) > OVERFLOW_S:
            self.end("too many messages")
        else:
            self.conversation.receive(message)

    def _say(self, event: JSON) -> None:
        channel = self._channel
        if event["type"] == "response.output_audio.delta":
            return
        if channel is None:
            self._early.append(event)
        elif channel.readyState != "open":
            return
        elif channel.bufferedAmount > self.config.max_outbox_bytes:
            self.end("client reads too slowly")
        else:
            channel.send(json.dumps(event, separators=(",", ":")))

    def _changed(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self.end("client gone")

    # Sound.

    async def _hear(self, track: MediaStreamTrack) -> None:
        is_full = False
        async for waveform in _waveforms(track):
            try:
                self.conversation.hear(waveform)
                is_full = False
            except ProtocolError as error:
                if not is_full:  # fifty times a second would be no news
                    self.conversation.fail(error)
                is_full = True

    async def _listen(self) -> None:
        """What the engine says: sound into the track, all else to the client."""
        async for event in self.session.events():
            match event:
                case m.AudioDelta(response_id=response_id, item_id=item_id, waveform=waveform):
                    self._queue.push(response_id, item_id, waveform)
                    event = replace(event, waveform=np.zeros(0, np.float32))
                case m.AudioDone(response_id=response_id):
                    self._queue.end(response_id)
                case m.PlaybackHeld():
                    self._queue.hold()
                case m.PlaybackGoesOn():
                    self._queue.go_on()
            self.conversation.tell(event)
            if isinstance(event, m.SpeechStarted) and self._interrupts():
                self._clear()
        self.end("the session ended, or goes on over another connection")

    def _interrupts(self) -> bool:
        turns = self.conversation.settings.turn_detection
        return turns is not None and turns.interrupt_response

    def _clear(self) -> None:
        """Fall silent, and have the model forget what was not sent."""
        for heard in self._queue.clear():
            cleared = self.conversation.stamp("output_audio_buffer.cleared", response_id=heard.response_id)
            self._say(cleared)
            self.session.push(m.Truncate(item_id=heard.item_id, audio_end_ms=heard.played_ms))

    def _tell_marks(self) -> None:
        for mark in self._queue.take_marks():
            self._say(self.conversation.stamp(f"output_audio_buffer.{mark.kind}", response_id=mark.response_id))


async def _waveforms(track: MediaStreamTrack) -> AsyncIterator[m.Waveform]:
    """What a track carries, as float32 [S] at 16 kHz, until it ends."""
    resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        assert isinstance(frame, AudioFrame)
        for resampled in resampler.resample(frame):
            yield pcm_to_waveform(resampled.to_ndarray()[0])


def _wrong_offer(reason: str) -> ProtocolError:
    return ProtocolError(
        f"sdp: expected the SDP offer of a WebRTC call with an audio line and a data channel '{CHANNEL}', "
        f"got something else ({reason})",
        "invalid_offer", "sdp",
    )  # fmt: skip
