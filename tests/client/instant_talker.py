"""A system that hears by level and answers with a tone, and a loop whose time passes at once."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from icebreaker.engine import messages as m

T = TypeVar("T")
RATE = 24_000
LOUD = 0.03


class InstantLoop(asyncio.SelectorEventLoop):
    """Where all wait, the clock jumps to the next thing that is due."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()


def run_instantly(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        return runner.run(work)


@dataclass
class InstantTalker:
    """Its manners; words of the reply are spoken evenly over ``reply_ms``, which arrives twice as fast as it plays."""

    reply: str = "the capital of france is paris"
    reply_ms: int = 600
    silence_ms: int = 200
    delay_s: float = 0.0
    deaf_to_barge_in: bool = False
    sample_rate: int = RATE

    @asynccontextmanager
    async def session(self, config: m.SessionConfig) -> AsyncIterator["InstantSession"]:
        session = InstantSession(self)
        try:
            yield session
        finally:
            if session.speaking is not None:
                session.speaking.cancel()


class InstantSession:
    id = "instant"

    def __init__(self, manners: InstantTalker) -> None:
        self.manners = manners
        self.told: asyncio.Queue[m.SessionEvent] = asyncio.Queue()
        self.heard_ms = self.silent_ms = 0.0
        self.user_speaks = False
        self.speaking: asyncio.Task[None] | None = None
        self.replies = 0

    async def events(self) -> AsyncIterator[m.SessionEvent]:
        while True:
            yield await self.told.get()

    def push(self, command: m.Command) -> None:
        match command:
            case m.Append(waveform=waveform):
                self.hear(waveform)
            case m.Truncate(item_id=item_id, audio_end_ms=end):
                words = self.manners.reply.split()
                kept = " ".join(words[: int(end / self.manners.reply_ms * len(words))])
                self.told.put_nowait(m.ItemTruncated(item_id=item_id, audio_end_ms=end, text=kept))

    @property
    def replying(self) -> bool:
        return self.speaking is not None and not self.speaking.done()

    def hear(self, waveform: np.ndarray) -> None:
        length_ms = len(waveform) / 16
        self.heard_ms += length_ms
        loud = bool(np.abs(waveform).max(initial=0) > LOUD)
        self.silent_ms = 0.0 if loud else self.silent_ms + length_ms
        if loud and not self.user_speaks:
            self.user_speaks = True
            if self.replying and self.manners.deaf_to_barge_in:
                return
            self.told.put_nowait(m.SpeechStarted(item_id="user", at_ms=self.heard_ms))
            if self.replying and self.speaking is not None:
                self.speaking.cancel()
                self.done("cancelled")
        elif self.user_speaks and self.silent_ms >= self.manners.silence_ms:
            self.user_speaks = False
            self.told.put_nowait(m.SpeechStopped(item_id="user", at_ms=self.heard_ms))
            if not self.replying:
                self.speaking = asyncio.create_task(self.speak())

    async def speak(self) -> None:
        await asyncio.sleep(self.manners.delay_s)
        self.replies += 1
        names = {"response_id": f"r{self.replies}", "item_id": f"i{self.replies}"}
        self.told.put_nowait(m.ReplyStarted(**names, previous_item_id="user", output="audio"))
        self.told.put_nowait(m.TextDelta(**names, text=self.manners.reply))
        tone = (0.3 * np.sin(np.arange(RATE * self.manners.reply_ms // 1000) / 9)).astype(np.float32)
        for start in range(0, len(tone), RATE // 10):
            piece = tone[start : start + RATE // 10]
            self.told.put_nowait(m.AudioDelta(**names, waveform=piece, start_ms=1000 * start / RATE))
            await asyncio.sleep(0.05)
        self.done("completed")

    def done(self, status: Any) -> None:
        self.told.put_nowait(m.ReplyDone(response_id=f"r{self.replies}", reply=m.Reply(status=status)))
