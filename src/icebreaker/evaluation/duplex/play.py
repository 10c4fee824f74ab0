"""Plays a scene to a system in real time, as a telephone would, and keeps what both sides heard.

The listener behaves as Realtime clients do: a reply plays as it arrives, and when the system reports speech the
playback stops at once and the system is told how much of it was heard. Where the system can ask for a pause, it pauses.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.fbank import SAMPLE_RATE
from icebreaker.audio.pcm import Resampler, load_audio
from icebreaker.client.asking import Talker
from icebreaker.client.playback import Heard, Playback
from icebreaker.engine import messages as m
from icebreaker.engine.interface import SessionLike
from icebreaker.evaluation.duplex.metrics import Span
from icebreaker.evaluation.duplex.played import PlayedPart, PlayedReply, Recording
from icebreaker.evaluation.duplex.scenes import Echo, Scene

__all__ = ["FRAME_S", "play"]

Waveform = NDArray[np.float32]
FRAME_S = 0.02  # as the web page and WebRTC send it
FRAME = round(FRAME_S * SAMPLE_RATE)
JITTER_S = 0.08  # of a reply that a listener waits for before it plays, as the web page does
WAITS_S = 0.5  # after the user spoke in which a pause of the assistant may be meant
SETTLED_S = 1.0  # of silence after a complete reply that end a scene early


async def play(talker: Talker, scene: Scene, config: m.SessionConfig) -> Recording:
    """Play ``scene`` from its first part to its tail, in real time.

    Raises:
        ServerError: the system went away.
    """
    waveforms = [load_audio(part.audio, SAMPLE_RATE) for part in scene.parts]
    async with talker.session(replace(config, playback_hold=True)) as session:
        stage = _Stage(talker.sample_rate, session)
        listening = asyncio.create_task(stage.listen(session.events()))
        speaking = asyncio.create_task(_Microphone(stage, scene, waveforms).speak())
        try:
            done, _ = await asyncio.wait((listening, speaking), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return speaking.result() if speaking.done() else await speaking
        finally:
            for task in (listening, speaking):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task


class _Stage:
    """The clock, the loudspeaker, and what the system has said so far."""

    def __init__(self, sample_rate: int, session: SessionLike) -> None:
        self.playback = Playback(sample_rate, JITTER_S)
        self.replies: dict[str, PlayedReply] = {}
        self.failures: list[str] = []
        self.session = session
        self._turn_end_s: float | None = None
        self._begin = asyncio.get_running_loop().time()

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time() - self._begin

    async def listen(self, events: AsyncIterator[m.SessionEvent]) -> None:
        """Take in what the system does, until it stops."""
        async for event in events:
            match event:
                case m.ReplyStarted():
                    now, stopped = self.now_s, self._turn_end_s
                    decided, self._turn_end_s = now if stopped is None else stopped, None
                    self.replies[event.response_id] = PlayedReply(event.response_id, event.item_id, now, decided)
                case m.TextDelta() if (reply := self.replies.get(event.response_id)) is not None:
                    reply.text += event.text
                case m.AudioDelta() if (reply := self.replies.get(event.response_id)) is not None:
                    if reply.stopped_s is None and len(event.waveform):
                        reply.arrived_s = self.now_s if reply.arrived_s is None else reply.arrived_s
                        self.playback.push(self.now_s, event.waveform, event.response_id)
                case m.PlaybackHeld():
                    self.playback.hold(self.now_s)
                case m.PlaybackGoesOn():
                    self.playback.go_on(self.now_s)
                case m.SpeechStopped():
                    self._turn_end_s = self.now_s
                case m.SpeechStarted():
                    self._stop()
                case m.ReplyDone() if (reply := self.replies.get(event.response_id)) is not None:
                    reply.status = event.reply.status
                    if reply.status == "cancelled":
                        self._stop(reply.response_id)
                case m.ItemTruncated():
                    for reply in self.replies.values():
                        if reply.item_id == event.item_id:
                            reply.kept = event.text
                case m.Failed() if event.code != "not_told":
                    self.failures.append(f"{event.code}: {event.message}")

    def _stop(self, response_id: str | None = None) -> None:
        """Fall silent, and say how much was heard; nothing if no reply is under way, or another one is."""
        now = self.now_s
        if response_id is not None and self.playback.heard(response_id).end_s <= now:
            return
        heard = self.playback.stop(now) or self._held_back()
        if heard is None:
            return
        for reply in self.replies.values():
            if reply.stopped_s is None and reply.created_s <= now and reply.status != "completed":
                reply.stopped_s = now
        reply = self.replies[heard.response_id]
        reply.stopped_s = now
        self.session.push(m.Truncate(item_id=reply.item_id, audio_end_ms=heard.heard_ms))

    def _held_back(self) -> Heard | None:
        """What was heard of a reply that is under way though nothing of it plays: the system has fallen silent."""
        for reply in reversed(self.replies.values()):
            if reply.arrived_s is not None:
                is_over = reply.status or reply.stopped_s is not None
                return None if is_over else self.playback.heard(reply.response_id)
        return None

    def newest_sound(self) -> tuple[float, float]:
        """Seconds of the newest reply heard by now, and since it ended (0 while it sounds or will, or was none)."""
        now = self.now_s
        for reply in reversed(self.replies.values()):
            heard = self.playback.heard(reply.response_id)
            if heard.heard_ms:
                rest = self.playback.pending_s(now)
                waits = 0.0 if rest or not (reply.status or reply.stopped_s) else now - heard.end_s
                return max(0.0, heard.heard_ms / 1000 - rest), waits
            if not (reply.status or reply.stopped_s):
                break  # its sound is still to come
        return 0.0, 0.0


class _Microphone:
    """Sends what a microphone hears, frame by frame: the scene's parts, and echo."""

    def __init__(self, stage: _Stage, scene: Scene, waveforms: list[Waveform]) -> None:
        self.stage, self.scene, self.waveforms = stage, scene, waveforms
        self.starts: list[float] = []  # of the parts that have begun
        self.sent: list[Waveform] = []
        self.echo = None if scene.echo is None else _EchoPath(scene.echo, stage.playback)
        self.replies_before = 0  # the last part

    async def speak(self) -> Recording:
        """Send until the scene is over."""
        while True:
            start = len(self.sent) * FRAME_S
            self._begin_parts(start)
            if self._is_over(start):
                return self._recording()
            await asyncio.sleep(max(0.0, start + FRAME_S - self.stage.now_s))
            frame = sum(
                (self._heard_of(index, start) for index in range(len(self.starts))), np.zeros(FRAME, np.float32)
            )
            if self.echo is not None:
                frame = frame + self.echo.between(start, start + FRAME_S)
            self.sent.append(np.clip(frame, -1, 1).astype(np.float32))
            self.stage.session.push(m.Append(waveform=self.sent[-1]))

    def _begin_parts(self, now_s: float) -> None:
        while len(self.starts) < len(self.scene.parts) and self._is_due(now_s):
            self.starts.append(max(now_s, self.scene.parts[len(self.starts)].cue.at_s or 0.0))
            self.replies_before = len(self.stage.replies)

    def _is_due(self, now_s: float) -> bool:
        cue = self.scene.parts[len(self.starts)].cue
        if cue.at_s is not None:
            return now_s + FRAME_S > cue.at_s
        waited = now_s - self._last_end_s
        if self.starts and waited < 0:
            return False
        heard_s, silent_s = self.stage.newest_sound()
        answered = len(self.stage.replies) > self.replies_before
        if cue.speaking_s is not None:
            return (answered and heard_s >= cue.speaking_s and not silent_s) or waited >= cue.latest_s
        if cue.silent_s is not None:
            return (answered and silent_s >= cue.silent_s) or waited >= cue.latest_s
        return True

    def _is_over(self, now_s: float) -> bool:
        if len(self.starts) < len(self.scene.parts):
            return False
        waited = now_s - self._last_end_s
        answered = len(self.stage.replies) > self.replies_before
        _, silent_s = self.stage.newest_sound()
        return waited >= self.scene.tail_s or (waited > 0 and answered and silent_s >= SETTLED_S)

    @property
    def _last_end_s(self) -> float:
        return self.starts[-1] + len(self.waveforms[len(self.starts) - 1]) / SAMPLE_RATE if self.starts else 0.0

    def _heard_of(self, index: int, start_s: float) -> Waveform:
        first = round((start_s - self.starts[index]) * SAMPLE_RATE)  # negative where the part begins within the frame
        piece = self.waveforms[index][max(0, first) : max(0, first + FRAME)]
        return np.pad(piece, (max(0, -first), FRAME))[:FRAME]

    def _recording(self) -> Recording:
        end_s, playback = len(self.sent) * FRAME_S, self.stage.playback
        for reply in self.stage.replies.values():
            heard = playback.heard(reply.response_id)
            if heard.heard_ms:
                reply.heard_ms, reply.sounding = heard.heard_ms, Span(heard.start_s, heard.end_s)
                reply.audible_s = playback.audible_from(reply.response_id)
                reply.sound = playback.between(heard.start_s, heard.end_s)
        return Recording(
            user=np.concatenate([np.zeros(0, np.float32), *self.sent]),
            assistant=playback.between(0.0, end_s),
            sample_rate=playback.sample_rate,
            parts=[self._played(index) for index in range(len(self.starts))],
            replies=list(self.stage.replies.values()),
            underruns=sum(not self._spoke_at(start_s, start_s + gap_s) for start_s, gap_s in playback.underruns),
            failures=self.stage.failures,
        )

    def _spoke_at(self, start_s: float, end_s: float) -> bool:
        """Whether the user speaks in a span, or had just begun to: the assistant may wait to hear what comes of it."""
        ends = [start + len(self.waveforms[index]) / SAMPLE_RATE for index, start in enumerate(self.starts)]
        return any(start < end_s and start_s < end + WAITS_S for start, end in zip(self.starts, ends, strict=True))

    def _played(self, index: int) -> PlayedPart:
        part, start = self.scene.parts[index], self.starts[index]
        end = start + len(self.waveforms[index]) / SAMPLE_RATE
        speech = Span(start + part.words[0].start_s, start + part.words[-1].end_s) if part.words else Span(start, end)
        return PlayedPart(part.role, start, speech)


class _EchoPath:
    """From the loudspeaker back to the microphone."""

    def __init__(self, echo: Echo, playback: Playback) -> None:
        self._delay_s, self._gain = echo.delay_ms / 1000, np.float32(10 ** (echo.level_db / 20))
        self._playback, self._resampler = playback, Resampler(playback.sample_rate, SAMPLE_RATE)
        self._ready = np.zeros(0, np.float32)

    def between(self, start_s: float, end_s: float) -> Waveform:
        """[FRAME] of echo; calls follow one another without gaps."""
        sound = self._playback.between(start_s - self._delay_s, end_s - self._delay_s)
        self._ready = np.concatenate([self._ready, self._resampler.push(sound)])
        frame, self._ready = self._ready[:FRAME], self._ready[FRAME:]
        return np.pad(frame, (FRAME - len(frame), 0)) * self._gain
