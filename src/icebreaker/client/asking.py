"""One turn with a Realtime server (or any engine): ask, listen, keep the time. Knows nothing of scores."""

import asyncio
import time
import uuid
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.fbank import SAMPLE_RATE
from icebreaker.audio.pcm import load_audio
from icebreaker.engine import messages as m
from icebreaker.engine.interface import SessionLike
from icebreaker.errors import ServerError
from icebreaker.talking import Answer

__all__ = ["Talker", "answer_recording", "ask_aloud", "ask_in_writing", "transcript_of"]

Waveform = NDArray[np.float32]
FRAME_S = 0.04
FRAME = round(FRAME_S * SAMPLE_RATE)
SILENCE = np.zeros(FRAME, np.float32)
PATIENCE_S = 120.0  # for a reply
SILENCE_S = 4.0  # after a question, until a system that ends turns itself is told to answer


class Talker(Protocol):
    """A system that holds conversations: an engine in this process, or a Realtime server."""

    @property
    def sample_rate(self) -> int:
        """Of its voice, in Hz."""

    def session(self, config: m.SessionConfig) -> AbstractAsyncContextManager[SessionLike]:
        """Enter a new conversation."""


def answer_recording(talker: Talker, path: Path, config: m.SessionConfig) -> Answer:
    """Play a recording to ``talker`` as fast as it is spoken, and collect the reply.

    Raises:
        AudioError: the file cannot be read.
        ServerError: as in ``ask_in_writing``.
    """
    waveform = load_audio(path, SAMPLE_RATE)
    return asyncio.run(ask_aloud(talker, config, waveform, paced=True, patience_s=PATIENCE_S))


async def ask_in_writing(talker: Talker, config: m.SessionConfig, question: str, patience_s: float) -> Answer:
    """Send ``question`` as a message and collect the reply.

    Raises:
        ServerError: the server went away, refused to answer, or did not finish in ``patience_s``.
    """
    async with talker.session(config) as session:
        asked = m.Item(id=f"item_{uuid.uuid4().hex[:24]}", role="user", text=question)
        session.push(m.AddItem(item=asked))
        reply = _Reply(talker.sample_rate)
        reply.decide()
        session.push(m.Respond())
        return await _collected(session, reply, patience_s)


async def ask_aloud(
    talker: Talker, config: m.SessionConfig, waveform: Waveform, *, paced: bool, patience_s: float
) -> Answer:
    """Send ``waveform`` [S] at 16 kHz and collect the reply. Who ends the turn is part of ``config``.

    Raises:
        ServerError: as in ``ask_in_writing``.
    """
    async with talker.session(config) as session:
        reply = _Reply(talker.sample_rate)
        collecting = asyncio.create_task(_collected(session, reply, patience_s + len(waveform) / SAMPLE_RATE))
        try:
            await _speak(session, waveform, reply, paced=paced, waits=config.turns != "client")
            return await collecting
        finally:
            collecting.cancel()
            with suppress(asyncio.CancelledError, ServerError):
                await collecting


async def transcript_of(talker: Talker, waveform: Waveform, patience_s: float) -> str:
    """What the server hears in ``waveform`` [S] at 16 kHz.

    Raises:
        ServerError: as in ``ask_in_writing``; also a server that gives no transcripts.
    """
    async with talker.session(m.SessionConfig(turns="client", output="text")) as session:
        session.push(m.Append(waveform=waveform))
        session.push(m.Commit())
        try:
            async with asyncio.timeout(patience_s):
                async for event in session.events():
                    if isinstance(event, m.Transcribed):
                        return event.text
                    if isinstance(event, m.Failed):
                        raise ServerError(f"no transcript: {event.code}: {event.message}")
        except TimeoutError:
            pass
        raise ServerError(
            f"expected a transcript of the input, got none in {patience_s:g} s; does this server give any?"
        )


async def _speak(session: SessionLike, waveform: Waveform, reply: "_Reply", *, paced: bool, waits: bool) -> None:
    """Send frame by frame; where the system ends turns, go on in silence until it does."""
    began, sent, waited = time.perf_counter(), 0, 0.0
    question = len(waveform)
    while not reply.begun and (sent < question or (waits and waited < SILENCE_S)):
        frame = waveform[sent : sent + FRAME] if sent < question else SILENCE
        waited += FRAME_S if sent >= question else 0.0
        sent += len(frame)
        if paced or waits:
            await asyncio.sleep(max(0.0, began + sent / SAMPLE_RATE - time.perf_counter()))
        session.push(m.Append(waveform=frame))
        reply.answer.question_s = sent / SAMPLE_RATE
    if reply.begun:
        reply.answer.ended_by = "turn head"
        return
    reply.decide()
    session.push(m.Commit())
    session.push(m.Respond())


async def _collected(session: SessionLike, reply: "_Reply", patience_s: float) -> Answer:
    try:
        async with asyncio.timeout(patience_s):
            async for event in session.events():
                if reply.take(event):
                    return reply.finished()
    except TimeoutError:
        pass
    raise ServerError(f"expected a complete reply, got none in {patience_s:g} s; is the server overloaded?")


class _Reply:
    """What has come of an answer, and when."""

    def __init__(self, sample_rate: int) -> None:
        self.answer = Answer(sample_rate)
        self.begun = False
        self._decided: float | None = None
        self._pieces: list[Waveform] = []

    def decide(self) -> None:
        """The turn is over now."""
        self._decided = time.perf_counter()

    def take(self, event: m.SessionEvent) -> bool:
        """Note ``event``; true when the reply is complete.

        Raises:
            ServerError: the system reports an error instead of a reply.
        """
        answer = self.answer
        match event:
            case m.SpeechStopped() if not self.begun:
                self.decide()
            case m.Transcribed():
                answer.heard = event.text
            case m.ReplyStarted():
                self.begun = True
                if self._decided is None:
                    self.decide()
            case m.TextDelta():
                answer.text += event.text
                answer.text_ms = self._mark("first text")
            case m.AudioDelta() if len(event.waveform):
                self._pieces.append(event.waveform)
                if "first sound" not in answer.latency_ms:
                    answer.lagging_words = len(answer.text.split())
                answer.total_ms = self._mark("first sound")
            case m.Failed() if not self.begun and event.code not in ("transcription_failed", "not_told"):
                raise ServerError(f"no reply: {event.code}: {event.message}")
            case m.ReplyDone() if self.begun or event.reply.status != "cancelled":
                return True
        return False

    def finished(self) -> Answer:
        """The answer, whole."""
        self.answer.text = self.answer.text.strip()
        if self._pieces:
            self.answer.waveform = np.concatenate(self._pieces)
        return self.answer

    def _mark(self, name: str) -> float:
        """Milliseconds since the turn's end; kept under ``name`` the first time."""
        passed = (time.perf_counter() - (self._decided or time.perf_counter())) * 1000
        self.answer.latency_ms.setdefault(name, passed)
        return passed
