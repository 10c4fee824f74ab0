"""Whether what a microphone hears is the assistant's own voice coming back. Knows no model; nothing is cancelled.

The engine knows what is being played, but not when it reaches the microphone, how loud, or through which room. So it
compares envelopes: the energies in a few bands, 100 times a second, in decibels. The delay that fits best over the last
half second is kept while it fits, and with it each band's gain from loudspeaker to microphone. A window is explained by
echo when its bands are no louder than the played ones through those gains, by more than a margin. The user's voice over
the echo sticks out of some bands at any moment, and out of all of them in the pauses of the assistant's. Until a delay
is known, waveforms are compared, see ``coherence.py``, and before one is believed: two voices can have envelopes that
fit for a while.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from icebreaker.engine.coherence import copy_strength
from icebreaker.engine.hearing import SAMPLE_RATE
from icebreaker.engine.messages import Waveform

__all__ = ["EchoDetector"]

HOP = SAMPLE_RATE // 100  # 10 ms
FRAME = 2 * HOP
EDGES_HZ = (200, 400, 700, 1100, 1600, 2300, 3300, 4700, 7000)
FLOOR_DB = -75.0  # what is fainter says nothing
MAX_DELAY = 110  # hops from sending to hearing: network, jitter buffer, loudspeaker, room
SPAN = 50  # hops over which envelopes are compared
KEEP = 8 * 100  # hops of what was played that are remembered beyond the present
FIT = 0.55  # correlation of envelopes above which a delay is taken for one
AGREEING = 6  # windows in a row that have to find the same delay before it is believed
STEADY = 0.08  # a new delay must fit better than the old one by this much
STILL_FITS = 0.4  # correlation at the known delay below which somebody else is heard
MARGIN_DB = 7.0  # by which echo may exceed what its gains predict
REVERB_HOPS = 6  # a room rings on: the loudest of the newest played frames counts
STICKS_OUT = 0.25  # share of the bands and frames of a window above which somebody else speaks
FADE_DB_PER_HOP = 0.5
RINGING = 25  # hops after the last of it that an echo of a known delay may be heard
VOTES = 3  # windows that decide together
LOUD_DB = -40.0  # of what was played: its echo would be heard, were there one
REFUTING = 12  # hops of silence at the microphone, where an echo of something loud was due, that refute a delay
SPAN_MS = 384.0  # of speech that are surely told from an echo of unknown delay
COPY, LIKELY_COPY = 7.0, 8.5  # strengths from which they, or shorter ones, may be a copy of what was played
COPY_THERE = 9.0  # and from which they are one at the delay that the envelopes found
NEAR = 3  # hops about that delay
LOOKED_LONG = 60  # windows with something to hear after which no delay found means that there is no echo

Bands = NDArray[np.float32]  # [hops, bands] in dB


class EchoDetector:
    """Compares one session's microphone with its loudspeaker; positions are samples of the microphone's stream."""

    def __init__(self) -> None:
        self._played: Bands = np.zeros((0, len(EDGES_HZ) - 1), np.float32)  # from hop ``_first`` on
        self._first = 0
        self._heard: Bands = np.zeros((0, len(EDGES_HZ) - 1), np.float32)  # the newest SPAN hops
        self._tail = np.zeros(FRAME - HOP, np.float32)
        self._rest = np.zeros(0, np.float32)
        self._sound = np.zeros(0, np.float32)  # what was played, from sample ``_sound_from`` of the microphone on
        self._sound_from = 0
        self._microphone = np.zeros(0, np.float32)  # the newest SPAN_MS
        self._end = 0  # position after it
        self._strength: tuple[int, int, float] = (0, 0, 0.0)  # at which position of how many samples, found last
        self._mic_tail = np.zeros(FRAME - HOP, np.float32)
        self._mic_rest = np.zeros(0, np.float32)
        self._hop = 0  # of the microphone, at the end of ``_heard``
        self._delay: int | None = None
        self._gain: Bands | None = None  # [bands]
        self._verdicts: tuple[bool, ...] = ()
        self._found: tuple[int, ...] = ()  # delays that the newest windows found
        self._fit = 0.0  # at the known delay
        self._looked = 0  # windows that something was to be heard in
        self._missed = np.zeros(MAX_DELAY + 1, np.int64)  # by delay: hops in which its echo was due and was not there

    @property
    def delay_ms(self) -> float | None:
        """From sending to hearing, as far as known."""
        return None if self._delay is None else 10.0 * self._delay

    def begin(self, position: int) -> None:
        """A reply begins to play while the microphone is at ``position``; ``play`` continues from there."""
        hop = position // HOP
        if len(self._played) and hop <= self._first + len(self._played):
            return  # what was sent before is still playing: the new sound comes after it
        self._first, self._played = hop, self._played[:0]
        self._tail[:], self._rest = 0.0, self._rest[:0]
        self._sound, self._sound_from = self._sound[:0], position

    def play(self, waveform: Waveform) -> None:
        """More sound [S] at 16 kHz was sent to be played."""
        bands, self._tail, self._rest = _bands(waveform, self._tail, self._rest)
        self._played = np.concatenate([self._played, bands])
        if (old := self._hop - KEEP - self._first) > 0:
            self._played, self._first = self._played[old:], self._first + old
        self._sound = np.concatenate([self._sound, np.asarray(waveform, np.float32)])
        if (past := (self._hop - MAX_DELAY - SPAN) * HOP - self._sound_from) > 0:
            self._sound, self._sound_from = self._sound[past:], self._sound_from + past

    def take_back(self, samples: int) -> Waveform:
        """Playback pauses: the newest ``samples`` that were sent are not heard yet. They are given back [S]."""
        stop = max(0, len(self._sound) - samples)
        back, self._sound = self._sound[stop:], self._sound[:stop]
        hops, rest = divmod(len(self._played) * HOP + len(self._rest) - len(back), HOP)
        self._played = self._played[: max(0, hops)]
        newest = np.concatenate([np.zeros(FRAME, np.float32), self._sound])
        self._rest = newest[len(newest) - rest :]
        self._tail = newest[len(newest) - rest - len(self._tail) : len(newest) - rest]
        return back

    def stop(self, position: int) -> None:
        """Playback was stopped: what was sent ahead will not be heard."""
        self._played = self._played[: max(0, position // HOP - self._first)]
        self._sound = self._sound[: max(0, position - self._sound_from)]

    def explains(self, window: Waveform, position: int) -> bool:
        """Whether the window that begins at ``position`` can be all echo.

        Call it for every window while something is played, and for a second or so after.
        """
        self._hop = position // HOP
        newest = int(SPAN_MS) * SAMPLE_RATE // 1000
        self._microphone, self._end = np.concatenate([self._microphone, window])[-newest:], position + len(window)
        bands, self._mic_tail, self._mic_rest = _bands(window, self._mic_tail, self._mic_rest)
        self._hop += len(bands)
        self._heard = np.concatenate([self._heard, bands])[-SPAN:]
        if not self._anything_played():
            return False
        self._looked += 1
        self._refute(bands)
        self._align()
        if self._delay is None or self._gain is None:
            return False
        expected = self._expected(len(bands)) + self._gain
        sticking_out = (bands > np.maximum(expected, FLOOR_DB) + MARGIN_DB) & (bands > FLOOR_DB + MARGIN_DB)
        explained = self._fit >= STILL_FITS and float(sticking_out.mean()) <= STICKS_OUT
        self._verdicts = (*self._verdicts, explained)[-VOTES:]
        return sum(self._verdicts) * 2 > len(self._verdicts)

    @property
    def certain(self) -> bool:
        """Whether it knows where the echo lies, or that there is none (headphones, or a client that cancels it)."""
        return self._delay is not None or self._looked >= LOOKED_LONG or bool((self._missed >= REFUTING).all())

    def excludes(self, voiced_ms: float) -> bool:
        """Whether the newest ``voiced_ms`` of speech cannot be echo.

        At least ``SPAN_MS`` that are no copy of what was played, at any delay where an echo of something loud was not
        missed before.
        """
        possible = self._missed < REFUTING
        return not possible.any() or (voiced_ms >= SPAN_MS and self._copied(SPAN_MS, possible) < COPY)

    def doubts(self, voiced_ms: float) -> bool:
        """Whether they probably are none, however short they are.

        Of 64 ms one echo in ten is mistaken and two in three users are known; most echoes of a room where the
        microphone hears more of the walls than of the loudspeaker are mistaken.
        """
        possible = self._missed < REFUTING
        return not possible.any() or self._copied(min(voiced_ms, SPAN_MS), possible) < LIKELY_COPY

    def _copied(self, span_ms: float, possible: NDArray[np.bool_]) -> float:
        """How strongly the newest of the microphone is a copy of what was played, at one of the possible hops."""
        samples = min(int(span_ms) * SAMPLE_RATE // 1000, len(self._microphone))
        if self._strength[:2] != (self._end, samples):
            near = np.convolve(possible, np.ones(3), "same") > 0  # a delay lies between hops
            self._strength = self._end, samples, self._strength_at(samples, near)
        return self._strength[2]

    def _strength_at(self, samples: int, hops: NDArray[np.bool_]) -> float:
        """``copy_strength`` of so much of the microphone, of the delays ``hops`` [MAX_DELAY + 1]."""
        played = np.zeros(MAX_DELAY * HOP + samples, np.float32)
        first = self._end - len(played)
        low, high = max(first, self._sound_from), min(self._end, self._sound_from + len(self._sound))
        if low < high:
            played[low - first : high - first] = self._sound[low - self._sound_from : high - self._sound_from]
        delays = np.repeat(hops, HOP)[: MAX_DELAY * HOP + 1]
        return copy_strength(played, self._microphone[-samples:], delays)

    def may_echo(self, position: int) -> bool:
        """Whether anything that was played can be heard at ``position`` at all."""
        hop = position // HOP
        return bool(len(self._played)) and self._first <= hop <= self._first + len(self._played) + MAX_DELAY

    def may_ring(self, position: int) -> bool:
        """Whether an echo can be heard at ``position``, as far as is known: not where there is none."""
        if self._delay is None:
            return not self.certain and self.may_echo(position)
        return self.may_echo(position - (self._delay + RINGING - MAX_DELAY) * HOP)

    def _anything_played(self) -> bool:
        span = self._span(self._hop - MAX_DELAY - SPAN, self._hop)
        return bool((span > FLOOR_DB + MARGIN_DB).any())

    def _span(self, first: int, stop: int) -> Bands:
        """What was played in these hops; silence where there was nothing."""
        span: Bands = np.full((stop - first, self._played.shape[1]), FLOOR_DB - 20, np.float32)
        low, high = max(first, self._first), min(stop, self._first + len(self._played))
        if low < high:
            span[low - first : high - first] = self._played[low - self._first : high - self._first]
        return span

    def _expected(self, hops: int) -> Bands:
        """The loudest of the frames that may still ring, fading, for the newest ``hops`` of the microphone."""
        assert self._delay is not None
        stop = self._hop - self._delay + 1
        span = self._span(stop - hops - REVERB_HOPS, stop)
        ringing = [span[REVERB_HOPS - back : len(span) - back] - FADE_DB_PER_HOP * back for back in range(REVERB_HOPS)]
        return np.asarray(np.max(ringing, axis=0)[-hops:], np.float32)

    def _refute(self, bands: Bands) -> None:
        """Where the newest hops [n, bands] of the microphone are silent, an echo of what was loud is missed."""
        played = self._span(self._hop - len(bands) - MAX_DELAY, self._hop)
        loud = played.max(axis=1) > LOUD_DB
        for hop in np.flatnonzero((bands <= FLOOR_DB + MARGIN_DB).all(axis=1)):
            self._missed += loud[hop : hop + MAX_DELAY + 1][::-1]

    def _align(self) -> None:
        """Find the delay by which the played envelopes fit the heard ones best, and each band's gain."""
        if len(self._heard) < SPAN:
            return
        if not (self._heard > FLOOR_DB + MARGIN_DB).any():
            self._found, self._fit = (), 0.0
            return
        heard = np.maximum(self._heard, FLOOR_DB)
        played = np.maximum(self._span(self._hop - SPAN - MAX_DELAY, self._hop), FLOOR_DB)
        views = np.lib.stride_tricks.sliding_window_view(played, SPAN, axis=0)[::-1]  # [delay, bands, SPAN]
        fits = _correlation(views, heard.T)
        best = int(fits.argmax())
        if self._delay is not None:
            self._fit = float(fits[self._delay])
            if self._fit >= fits[best] - STEADY:
                best = self._delay
        self._found = (*self._found, best)[-AGREEING:] if fits[best] >= FIT else ()
        if len(self._found) < AGREEING or max(self._found) - min(self._found) > 2:
            return
        moved = self._delay is None or self._gain is None or abs(best - self._delay) > 2
        there = np.abs(np.arange(MAX_DELAY + 1) - best) <= NEAR
        if moved and self._strength_at(len(self._microphone), there) < COPY_THERE:
            return  # it only sounds alike
        self._fit = float(fits[best])
        loud = (views[best].T > FLOOR_DB + 15) & (heard > FLOOR_DB + 3)  # [SPAN, bands]
        if loud.sum(axis=0).min() == 0 and self._gain is None and loud.sum() < SPAN:
            return
        difference = np.where(loud, heard - views[best].T, np.nan)
        with np.errstate(all="ignore"):
            gain = np.array([np.median(d[~np.isnan(d)]) if (~np.isnan(d)).any() else np.nan for d in difference.T])
        overall = float(np.nanmedian(gain)) if (~np.isnan(gain)).any() else 0.0
        gain = np.where(np.isnan(gain), overall, gain).astype(np.float32)
        self._gain = (
            gain if moved or self._gain is None else np.minimum(self._gain + 0.5, 0.8 * self._gain + 0.2 * gain)
        )
        self._delay = best


def _correlation(views: Bands, heard: Bands) -> Bands:
    """Of [delays, bands, SPAN] with [bands, SPAN], each band about its own mean: [delays]."""
    a = views - views.mean(axis=-1, keepdims=True)
    b = heard - heard.mean(axis=-1, keepdims=True)
    product = np.einsum("dbt,bt->d", a, b)
    norm = np.sqrt(np.einsum("dbt,dbt->d", a, a) * float((b * b).sum()))
    return np.asarray(product / np.maximum(norm, 1e-3), np.float32)


def _bands(waveform: Waveform, tail: Waveform, rest: Waveform) -> tuple[Bands, Waveform, Waveform]:
    """Band energies in dB of every whole hop, and what the next call needs of the past."""
    samples = np.concatenate([tail, rest, np.asarray(waveform, np.float32)])
    hops = (len(samples) - len(tail)) // HOP
    if hops < 1:
        return np.zeros((0, len(EDGES_HZ) - 1), np.float32), tail, samples[len(tail) :]
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP][:hops]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=-1)) ** 2 / FRAME**2 * 16
    edges = np.searchsorted(np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE), EDGES_HZ)
    energies = np.stack([power[:, low:high].sum(axis=1) for low, high in pairwise(edges)], 1)
    bands = (10 * np.log10(energies + 1e-10)).astype(np.float32)
    end = hops * HOP
    return bands, samples[end : end + len(tail)], samples[end + len(tail) :]
