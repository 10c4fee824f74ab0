"""What a listener hears of replies that arrive in pieces: a loudspeaker without a device. Reads no clock."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Heard", "Playback"]

Waveform = NDArray[np.float32]
LEAST_GAP_S = 1e-3  # less is rounding
AUDIBLE = 10 ** (-40 / 20)  # of full scale: softer counts as silence


@dataclass(frozen=True)
class Piece:
    """Sound that was, is or will be heard: ``waveform`` [S] of reply ``response_id``, from sample ``start`` on."""

    start: int
    waveform: Waveform
    response_id: str

    @property
    def end(self) -> int:
        """The sample after the last one."""
        return self.start + len(self.waveform)

    def until(self, at: int) -> "Piece":
        """What of it comes before sample ``at``."""
        return replace(self, waveform=self.waveform[: max(0, at - self.start)])

    def after(self, at: int, *, by: int) -> "Piece":
        """The rest, ``by`` samples later."""
        return replace(self, start=max(self.start, at) + by, waveform=self.waveform[max(0, at - self.start) :])


@dataclass(frozen=True)
class Heard:
    """What was heard of one reply: milliseconds, and when its sound began and ended (seconds)."""

    response_id: str
    heard_ms: float
    start_s: float
    end_s: float


class Playback:
    """Pieces play one after the other, each at its arrival or when the one before has ended.

    Times are seconds since the playback's own start and are given by the caller, never going back. Sound is sampled
    at ``sample_rate`` Hz. The first sound of a reply waits until there is ``jitter_s`` of it, in case the next is late,
    but no longer than that. While it is held nothing plays, and what was to be heard is heard so much later.
    """

    def __init__(self, sample_rate: int, jitter_s: float = 0.0) -> None:
        self.sample_rate, self.jitter_s = sample_rate, jitter_s
        self._pieces: list[Piece] = []
        self._held: int | None = None  # the sample at which it stands still
        self._held_dry = 0  # samples for which it was held since it ran dry
        self.underruns: list[tuple[float, float]] = []  # when a reply ran dry, and for how many seconds

    def push(self, now_s: float, waveform: Waveform, response_id: str) -> None:
        """``waveform`` [S] arrived. A gap within one reply is an underrun."""
        now = self._at(now_s)
        goes_on = bool(self._pieces) and self._pieces[-1].response_id == response_id
        start = max(now if goes_on else now + round(self.jitter_s * self.sample_rate), self._end)
        gap, self._held_dry = now - self._end - self._held_dry, 0
        if goes_on and gap >= LEAST_GAP_S * self.sample_rate:
            self.underruns.append((self._end / self.sample_rate, gap / self.sample_rate))
        self._pieces.append(Piece(start, np.asarray(waveform, dtype=np.float32), response_id))
        if self.jitter_s:
            self._begin(now)

    def hold(self, now_s: float) -> None:
        """Pause at once, and keep what is still to be heard."""
        self._held = self._at(now_s)

    def go_on(self, now_s: float) -> None:
        """Play on at the very next sample."""
        if self._held is None:
            return
        at, self._held = self._held, None
        later = round(now_s * self.sample_rate) - at
        if self._end <= at:
            self._held_dry += later
        self._pieces = [
            part
            for piece in self._pieces
            for part in (piece.until(at), piece.after(at, by=later))
            if len(part.waveform)
        ]

    def stop(self, now_s: float) -> Heard | None:
        """Fall silent at once; what was heard of the reply that was playing, or None if none was."""
        now, self._held = self._at(now_s), None
        playing = next((piece for piece in self._pieces if piece.end > now), None)
        self._pieces = [piece.until(now) for piece in self._pieces if piece.start < now]
        return None if playing is None else self.heard(playing.response_id)

    def heard(self, response_id: str) -> Heard:
        """Of one reply, all that is to be heard as things stand; zeros if nothing."""
        pieces = [piece for piece in self._pieces if piece.response_id == response_id and len(piece.waveform)]
        if not pieces:
            return Heard(response_id, 0.0, 0.0, 0.0)
        samples = sum(len(piece.waveform) for piece in pieces)
        start, end = pieces[0].start / self.sample_rate, pieces[-1].end / self.sample_rate
        return Heard(response_id, 1000 * samples / self.sample_rate, start, end)

    def pending_s(self, now_s: float) -> float:
        """Seconds that are still to be heard."""
        return max(0, self._end - self._at(now_s)) / self.sample_rate

    def audible_from(self, response_id: str) -> float | None:
        """When the reply's first sound above -40 dB of full scale is heard; None if it has none."""
        for piece in self._pieces:
            if piece.response_id == response_id:
                loud = np.flatnonzero(np.abs(piece.waveform) > AUDIBLE)
                if len(loud):
                    return (piece.start + int(loud[0])) / self.sample_rate
        return None

    def between(self, start_s: float, end_s: float) -> Waveform:
        """What is heard from ``start_s`` to ``end_s``, [S]; silence where nothing plays, and before the start."""
        start, end = round(start_s * self.sample_rate), round(end_s * self.sample_rate)
        sound = np.zeros(max(0, end - start), dtype=np.float32)
        end = self._at(end_s)
        for piece in reversed(self._pieces):
            if piece.end <= start:
                break
            first, last = max(start, piece.start), min(end, piece.end)
            if first < last:
                sound[first - start : last - start] = piece.waveform[first - piece.start : last - piece.start]
        return sound

    def _begin(self, now: int) -> None:
        """Let the newest reply, if enough of it has arrived, wait no longer."""
        first = len(self._pieces) - 1
        while first and self._pieces[first - 1].response_id == self._pieces[-1].response_id:
            first -= 1
        start = max(now, self._pieces[first - 1].end if first else 0)
        arrived = sum(len(piece.waveform) for piece in self._pieces[first:])
        if arrived >= round(self.jitter_s * self.sample_rate) and self._pieces[first].start > start:
            by = start - self._pieces[first].start
            self._pieces[first:] = [replace(piece, start=piece.start + by) for piece in self._pieces[first:]]

    def _at(self, now_s: float) -> int:
        """The sample that is heard then, or would be."""
        now = round(now_s * self.sample_rate)
        return now if self._held is None else min(now, self._held)

    @property
    def _end(self) -> int:
        return self._pieces[-1].end if self._pieces else 0
