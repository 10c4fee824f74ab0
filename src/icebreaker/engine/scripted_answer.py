"""An answer that a script gives: its words, the tone that stands for them, and what of it was heard. Sends nothing."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from icebreaker.engine.messages import AudioDelta, ReplyStarted

__all__ = ["MS_PER_LETTER", "Said", "heard_letters", "tone", "words"]

TONE_HZ = 440.0
MS_PER_LETTER = 60.0
DELTA_MS = 200.0


@dataclass
class Said:
    """The newest answer of a session.

    Attributes:
        reply: how it began.
        text: all that the script wants said.
        started_s: when it began.
        sent: its text so far.
        done: nothing more comes of it.
        task: that speaks.
    """

    reply: ReplyStarted
    text: str
    started_s: float
    sent: str = ""
    done: bool = False
    task: asyncio.Task[None] | None = None

    def heard(self, played_ms: float) -> str:
        """What of it was heard when ``played_ms`` of its sound were played."""
        return self.sent if self.reply.output == "text" else self.text[: heard_letters(self.text, played_ms)]


def words(text: str) -> list[tuple[int, str]]:
    """Words with the space before them, and where each begins."""
    found, start = [], 0
    for end in [i for i, letter in enumerate(text) if letter == " " and i] + [len(text)]:
        found.append((start, text[start:end]))
        start = end
    return found


def heard_letters(text: str, ms: float) -> int:
    """How much of ``text`` was said after ``ms``, in whole words."""
    limit = int(ms / MS_PER_LETTER)
    return len(text) if limit >= len(text) else max((end for end, _ in words(text) if end <= limit), default=0)


def tone(reply: ReplyStarted, start_ms: float, ms: float, rate: int) -> Iterator[AudioDelta]:
    """The sound of an answer from ``start_ms`` on, in pieces."""
    for offset in np.arange(0.0, ms, DELTA_MS).tolist():
        first, stop = (round((start_ms + at) * rate / 1000) for at in (offset, min(ms, offset + DELTA_MS)))
        sound = 0.1 * np.sin(2 * np.pi * TONE_HZ * np.arange(first, stop) / rate)
        yield AudioDelta(
            response_id=reply.response_id, item_id=reply.item_id, waveform=sound.astype(np.float32),
            start_ms=start_ms + offset,
        )  # fmt: skip
