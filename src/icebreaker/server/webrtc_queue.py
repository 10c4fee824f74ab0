"""Sound on its way into a WebRTC track, and how much of it was sent. Knows nothing of aiortc; frames are its clock."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.pcm import Resampler, waveform_to_pcm

__all__ = ["FRAME_SAMPLES", "TRACK_RATE", "Heard", "Marked", "SpeechQueue"]

TRACK_RATE = 48_000  # Hz, as Opus has it
FRAME_SAMPLES = TRACK_RATE // 50  # 20 ms


@dataclass(frozen=True)
class Heard:
    """``played_ms`` of a message were sent when it was cut."""

    response_id: str
    item_id: str
    played_ms: float


@dataclass(frozen=True)
class Marked:
    """A reply's sound began or came to its end."""

    kind: Literal["started", "stopped"]
    response_id: str


@dataclass
class _Reply:
    response_id: str
    item_id: str
    resampler: Resampler
    pieces: deque[NDArray[np.float32]] = field(default_factory=deque)
    sent: int = 0  # samples
    ended: bool = False


class SpeechQueue:
    """Replies one after the other, in frames of 20 ms at 48 kHz.

    Args:
        sample_rate: of what is pushed, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._replies: deque[_Reply] = deque()
        self._marks: list[Marked] = []
        self._held = False

    def push(self, response_id: str, item_id: str, waveform: NDArray[np.float32]) -> None:
        """More of a reply: float32 [S] at ``sample_rate``."""
        if not self._replies or self._replies[-1].response_id != response_id:
            self._replies.append(_Reply(response_id, item_id, Resampler(self._sample_rate, TRACK_RATE)))
        reply = self._replies[-1]
        if len(sound := reply.resampler.push(waveform)):
            reply.pieces.append(sound)

    def end(self, response_id: str) -> None:
        """Nothing more comes of a reply."""
        for reply in self._replies:
            if reply.response_id == response_id and not reply.ended:
                reply.ended = True
                if len(rest := reply.resampler.push(np.zeros(0, np.float32), last=True)):
                    reply.pieces.append(rest)

    def clear(self) -> list[Heard]:
        """Fall silent; what was sent of each reply that was not over."""
        heard = [Heard(each.response_id, each.item_id, 1000 * each.sent / TRACK_RATE) for each in self._replies]
        self._replies.clear()
        self._held = False
        return heard

    def hold(self) -> None:
        """Pause, and keep what waits."""
        self._held = True

    def go_on(self) -> None:
        """Play on at the very next sample."""
        self._held = False

    def frame(self) -> NDArray[np.int16]:
        """The next 20 ms [960]; silence where there is nothing."""
        frame = np.zeros(FRAME_SAMPLES, np.float32)
        at = 0
        while at < FRAME_SAMPLES and self._replies and not self._held:
            reply = self._replies[0]
            if reply.pieces and not reply.sent:
                self._marks.append(Marked("started", reply.response_id))
            at = _fill(frame, at, reply)
            if reply.pieces or not reply.ended:
                break
            self._replies.popleft()
            if reply.sent:
                self._marks.append(Marked("stopped", reply.response_id))
        return waveform_to_pcm(frame)

    def take_marks(self) -> list[Marked]:
        """What began and ended since the last call."""
        marks, self._marks = self._marks, []
        return marks


def _fill(frame: NDArray[np.float32], at: int, reply: _Reply) -> int:
    """Move samples of a reply into the frame from ``at`` on; returns where they end."""
    while at < len(frame) and reply.pieces:
        piece = reply.pieces.popleft()
        count = min(len(frame) - at, len(piece))
        frame[at : at + count] = piece[:count]
        if count < len(piece):
            reply.pieces.appendleft(piece[count:])
        at += count
        reply.sent += count
    return at
