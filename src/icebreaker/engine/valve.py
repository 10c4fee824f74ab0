"""Sound on its way to its listener: sent only a little before it is played, so that it can be held back at once.

What was sent plays on at the client, whatever happens here; so the less is sent ahead, the sooner a voice falls silent.
While the valve is held nothing passes, and afterwards it goes on at the very next sample. A client that can pause is
told to: then what it has waits as well. Knows no engine and reads no clock: an engine's thread puts sound in, the event
loop takes out what is due, both at any time.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from threading import RLock
from typing import NamedTuple

from icebreaker.engine.commands import Waveform
from icebreaker.engine.events import AudioDelta, PlaybackGoesOn, PlaybackHeld
from icebreaker.engine.listener_clock import ListenerClock
from icebreaker.engine.playback import Playback

__all__ = ["JITTER_S", "Due", "GoneOn", "Passed", "Paused", "Valve"]

JITTER_S = 0.1  # that clients wait with the first sound, in case the second is late
LEAST_GAP_S = 1e-3  # less is rounding
LEAST_MS = 40.0  # of sound that are worth an event, unless it is the last
HOLD_MOST_S = 2.0  # a verdict that has not come by then (a microphone that was muted in mid-word) never comes


Due = AudioDelta | PlaybackHeld | PlaybackGoesOn


class Passed(NamedTuple):
    """Sound that was sent.

    Attributes:
        waveform: [S].
        first: of its reply.
        gap_s: silence that its listener heard before it, within the reply, but for pauses.
        dry: which was nobody's intention.
    """

    waveform: Waveform
    first: bool
    gap_s: float
    dry: bool


class Paused(NamedTuple):
    """The listener pauses, with ``kept_s`` of what had passed still to be heard."""

    kept_s: float


class GoneOn(NamedTuple):
    """The listener plays on, after so many seconds."""

    after_s: float


class Valve:
    """The way of one session's sound, a reply after the other. Times are seconds, of any clock that never goes back.

    Args:
        sample_rate: of the sound, in Hz.
        jitter_s: from sending a reply's first sample to its playback.
    """

    def __init__(self, sample_rate: int, jitter_s: float = JITTER_S) -> None:
        self.sample_rate, self.jitter_s = sample_rate, jitter_s
        self.lead_s = math.inf  # everything passes at once
        self.pauses = False  # whether the listener can, and is to be told to
        self.changed: Callable[[], None] = _nothing  # is called when something may be due sooner than was said
        self._lock = RLock()
        self._waiting: deque[AudioDelta] = deque()
        self._playback = Playback()  # in the listener's time, as ``_dry_s``
        self._listener = ListenerClock()  # stands from when he was told to pause
        self._sent = 0  # samples of the present reply
        self._held_s: float | None = None  # since when
        self._excused = False  # the next gap is our own doing
        self._dry_s = 0.0  # when the listener has heard all that was sent
        self._passed: list[Passed | Paused | GoneOn] = []  # since somebody last asked

    # Who makes the sound.

    def begin(self, now_s: float) -> None:
        """A new reply: its sound plays after what was sent of the one before."""
        with self._lock:
            self._waiting.clear()
            self._playback = Playback(at_s=max(self._listener.at(now_s), self._dry_s))
            self._sent = 0

    def put(self, delta: AudioDelta) -> None:
        """More sound of the reply."""
        with self._lock:
            self._waiting.append(delta)

    def hold(self, now_s: float) -> None:
        """Let nothing pass until ``release``, or for ``HOLD_MOST_S``."""
        with self._lock:
            if self._held_s is not None:
                return
            self._held_s = now_s
        if self.pauses:
            self.changed()

    def release(self) -> None:
        """Go on where it stopped."""
        with self._lock:
            self._excused = self._excused or self._held_s is not None
            self._held_s = None
        self.changed()

    def cut(self) -> None:
        """Forget what waits, and hold no longer."""
        with self._lock:
            self._waiting.clear()
            self.release()

    def silence(self, now_s: float) -> None:
        """The client plays no more of what it was sent."""
        with self._lock:
            now, listener_s = self.playback(now_s), self._listener.at(now_s)
            self._playback, self._dry_s = replace(now, sent_ms=now.played_ms), min(self._dry_s, listener_s)

    def stop(self, now_s: float) -> None:
        """Forget what waits; the client plays no more of what it was sent, nor does it wait to be told to go on."""
        with self._lock:
            self.silence(now_s)
            self._listener.go_on(now_s)
            self.cut()

    # Who sends it.

    def take(self, now_s: float) -> list[Due]:
        """What is due, in order; sound counts as sent, and who is told to pause has paused."""
        with self._lock:
            self._look(now_s)
            taken: list[Due] = self._tell(now_s)
            samples = self._room(now_s)
            while samples > 0 and self._waiting:
                delta = self._next(samples)
                taken.append(delta)
                samples -= len(delta.waveform)
                self._send(delta.waveform, now_s)
            return taken

    def due_in(self, now_s: float) -> float | None:
        """Seconds until something is due; None: nothing waits."""
        with self._lock:
            if self._is_untold:
                return 0.0
            if self._held_s is not None and (self._waiting or self._listener.stands):
                return max(0.0, self._held_s + HOLD_MOST_S - now_s)
            if not self._waiting:
                return None
            if self.lead_s == math.inf:
                return 0.0
            playback = self.playback(now_s)
            too_much_s = (playback.lead_ms + self._least_ms()) / 1000 - self.lead_s
            return max(0.0, too_much_s + (playback.at_s - self._listener.at(now_s) if too_much_s > 0 else 0.0))

    # Who wants to know.

    @property
    def is_waiting(self) -> bool:
        """Whether there is sound that was not sent yet."""
        return bool(self._waiting)

    @property
    def is_held(self) -> bool:
        """Whether nothing passes."""
        return self._held_s is not None

    @property
    def sent_samples(self) -> int:
        """Of the present reply."""
        return self._sent

    def playback(self, now_s: float) -> Playback:
        """Of the present reply, at its listener, in his time."""
        with self._lock:
            return self._playback.at(self._listener.at(now_s))

    def played_samples(self, now_s: float) -> int:
        """Of the present reply, what can have been heard."""
        return round(self.playback(now_s).played_ms * self.sample_rate / 1000)

    def dry_in(self, now_s: float) -> float:
        """Seconds until the listener has heard all that was sent, if he pauses no more."""
        with self._lock:
            return max(0.0, self._dry_s - self._listener.at(now_s))

    def take_passed(self) -> list[Passed | Paused | GoneOn]:
        """What was sent since the last call, and when its listener paused."""
        with self._lock:
            passed, self._passed = self._passed, []
            return passed

    def _look(self, now_s: float) -> None:
        if self._held_s is not None and now_s - self._held_s >= HOLD_MOST_S:
            self.release()

    @property
    def _is_untold(self) -> bool:
        """Whether the listener pauses though nothing is held, or the other way round."""
        return self._listener.stands != (self.pauses and self._held_s is not None)

    def _tell(self, now_s: float) -> list[Due]:
        """What he has to be told of that."""
        if not self._is_untold:
            return []
        if self._listener.stands:
            self._passed.append(GoneOn(self._listener.go_on(now_s)))
            return [PlaybackGoesOn()]
        self._passed.append(Paused(self.dry_in(now_s)))
        self._listener.stop(now_s)
        return [PlaybackHeld()]

    def _room(self, now_s: float) -> float:
        """Samples that may pass now."""
        if self._held_s is not None or not self._waiting:
            return 0
        if self.lead_s == math.inf:
            return math.inf
        room_ms = 1000 * self.lead_s - self.playback(now_s).lead_ms
        return round(room_ms * self.sample_rate / 1000) if room_ms >= self._least_ms() - 1e-6 else 0

    def _least_ms(self) -> float:
        waiting = sum(len(each.waveform) for each in self._waiting)
        return min(LEAST_MS, 1000 * waiting / self.sample_rate)

    def _next(self, samples: float) -> AudioDelta:
        """The first of what waits, or as much of it as may pass."""
        first = self._waiting.popleft()
        if len(first.waveform) <= samples:
            return first
        count = int(samples)
        start_ms = first.start_ms + 1000 * count / self.sample_rate
        self._waiting.appendleft(replace(first, waveform=first.waveform[count:], start_ms=start_ms))
        return replace(first, waveform=first.waveform[:count])

    def _send(self, waveform: Waveform, now_s: float) -> None:
        first, playback, now_s = not self._sent, self._playback, self._listener.at(now_s)
        if first:
            playback = replace(playback, at_s=max(playback.at_s, now_s + self.jitter_s))
        gap_s = 0.0 if first or now_s - self._dry_s < LEAST_GAP_S else now_s - self._dry_s
        self._passed.append(Passed(waveform, first, gap_s, gap_s > 0 and not self._excused))
        self._excused = False
        self._playback = playback.send(1000 * len(waveform) / self.sample_rate, now_s)
        self._dry_s = self._playback.at_s + self._playback.lead_ms / 1000
        self._sent += len(waveform)


def _nothing() -> None:
    pass
