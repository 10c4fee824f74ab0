"""Speech as somebody else would say it: pitch, vocal tract, breath and pace drawn anew. Knows nothing of corpora.

WORLD (Morise et al. 2016, package pyworld) takes a recording apart into pitch, spectral envelope and aperiodicity,
which are changed one by one and put together again. A warp of log-mels (``feature_augment.py``) moves formants and
harmonics together; here they move apart, formants also against each other, and no two syllables keep their lengths to
each other: what tells one speaker from the next where a few synthesisers have spoken everything.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icebreaker.extras import load_extra

__all__ = ["Manner", "draw_manner", "revoice"]

FRAME_MS = 10.0
KNOT_S = 0.25  # the pace changes over so long
LOWEST_HZ, HIGHEST_HZ = 75.0, 270.0
Waveform = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a speaker sounds."""

    pitch_hz: float  # the mean of the logarithm
    liveliness: float  # the range of pitch over that of the recording; 0 is monotone
    tract: tuple[float, ...]  # what is heard at f was at f times this: knots spread evenly from 0 Hz to half the rate
    breath: float  # exponent of aperiodicity: 2 is buzzing, 0.5 breathy
    pace: float  # the length over that of the recording
    unevenness: float  # standard deviation of the logarithm of local pace
    seed: int  # of the local paces


def draw_manner(rng: np.random.Generator) -> Manner:
    """A speaker nobody has heard; also one whose pitch and formants hardly go together."""
    middle = rng.uniform(0.85, 1.18)
    return Manner(
        pitch_hz=float(np.exp(rng.uniform(np.log(LOWEST_HZ), np.log(HIGHEST_HZ)))),
        liveliness=float(rng.uniform(0.3, 1.6)),
        tract=tuple(float(middle * factor) for factor in np.exp(rng.normal(0, 0.035, 6))),
        breath=float(np.exp(rng.uniform(np.log(0.4), np.log(2.5)))),
        pace=float(rng.uniform(0.85, 1.2)),
        unevenness=float(rng.uniform(0.0, 0.2)),
        seed=int(rng.integers(1 << 31)),
    )


def revoice(waveform: Waveform, sample_rate: int, manner: Manner) -> Waveform:
    """``waveform`` [S] in ``manner``: [S'], at most as loud; about ``manner.pace`` times as long.

    Raises:
        ConfigError: the packages of the extra ``voices`` are missing.
    """
    world = load_extra("pyworld", "voices")
    samples = waveform.astype(np.float64)
    pitch, times = world.dio(samples, sample_rate, frame_period=FRAME_MS)
    pitch = world.stonemask(samples, pitch, times, sample_rate)
    envelope = world.cheaptrick(samples, pitch, times, sample_rate)
    breath = world.d4c(samples, pitch, times, sample_rate)
    order = _order(len(pitch), manner)
    bins = envelope.shape[1]
    factors = np.interp(np.arange(bins), np.linspace(0, bins - 1, len(manner.tract)), manner.tract)
    heard_at = np.clip(np.arange(bins) * factors, 0, bins - 1)
    made = world.synthesize(
        _sung(pitch, manner)[order],
        np.exp(_read(np.log(envelope), heard_at))[order],
        np.clip(_read(breath, heard_at) ** manner.breath, 0.0, 1.0)[order],
        sample_rate,
        FRAME_MS,
    )
    loudest = max(float(np.abs(made).max()), 1e-9)
    return np.asarray(made * min(1.0, float(np.abs(waveform).max()) / loudest), dtype=np.float32)


def _sung(pitch: NDArray[np.float64], manner: Manner) -> NDArray[np.float64]:
    """``pitch`` [T] in Hz, 0 where unvoiced, moved to the manner's height and range."""
    voiced = pitch > 0
    if not voiced.any():
        return pitch
    logs = np.log(pitch[voiced])
    moved = np.zeros_like(pitch)
    moved[voiced] = np.exp(np.log(manner.pitch_hz) + manner.liveliness * (logs - logs.mean()))
    return np.clip(moved, 0.0, 500.0)


def _read(frames: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """``frames`` [T, F] read between its bins, at ``at`` [F]."""
    low = np.minimum(at.astype(int), frames.shape[1] - 2)
    return np.asarray(frames[:, low] + (at - low) * (frames[:, low + 1] - frames[:, low]))


def _order(frames: int, manner: Manner) -> NDArray[np.intp]:
    """Which frame is said when: [T'], never backwards."""
    knots = max(2, round(frames * FRAME_MS / 1000 / KNOT_S))
    paces = np.random.default_rng(manner.seed).normal(0, manner.unevenness, knots)
    local = np.exp(np.interp(np.linspace(0, knots - 1, frames), np.arange(knots), paces))
    ends = np.cumsum(manner.pace * local)
    length = max(1, round(float(ends[-1])))
    return np.minimum(np.searchsorted(ends, np.arange(length)), frames - 1)
