"""Rooms, noise, telephones and other speakers, made from log-mels. Knows nothing of waveforms or models.

Far cheaper than on waveforms, so every batch can have its own: sounds add as in ``sounds_together``, gain is a
constant, a narrow band is a floor under the bins outside it, late reverberation smears energy forward in time, a longer
or shorter vocal tract warps the bins (VTLP, Jaitly and Hinton 2013), speed stretches the frames, a smooth curve over
the bins is another timbre or another microphone, and texture is another synthesiser.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from icebreaker.training.sounds_together import noise_grain, together

__all__ = ["FLOOR", "FeatureAugmentConfig", "augment", "coloured_noise", "reverberant", "smoothed"]

LogMel = NDArray[np.float32]  # [T, F]
FLOOR = -15.9424  # digital silence
TILT = (-2.0, 10.0)  # of noise
TALKERS = 4


@dataclass(frozen=True, kw_only=True)
class FeatureAugmentConfig:
    """How often each change is made, and how far it goes. The default changes nothing."""

    ramp_batches: int = 0  # the shares below grow from 0 to what they say over so many batches
    speed: float = 0.0
    max_speed: float = 0.12
    warp: float = 0.0
    max_warp: float = 0.15
    tone: float = 0.0
    tone_db: float = 5.0  # standard deviation of the curve
    texture: float = 0.0  # of each of: smoother or sharper over bins, over frames, rougher, more or less contrast
    reverb: float = 0.0
    max_decay_frames: float = 25.0  # frames to fall by 60 dB, 10 ms each
    band: float = 0.0
    noise: float = 0.0
    snr_db: tuple[float, ...] = (3.0, 30.0)
    babble: float = 0.0  # where others are given: one to four of them talk at once, further away
    babble_db: tuple[float, ...] = (8.0, 25.0)
    gain: float = 0.0
    gain_db: tuple[float, ...] = (-25.0, 6.0)


def augment(
    log_mel: LogMel, config: FeatureAugmentConfig, rng: np.random.Generator, eagerness: float = 1.0,
    other: Callable[[], LogMel] | None = None,
) -> tuple[LogMel, float]:  # fmt: skip
    """``log_mel`` [T, F] changed (a share ``eagerness`` of the times), and by how much it became longer in time.

    ``other`` draws the speech [T', F] of somebody else, for babble.
    """
    stretch = 1.0
    if rng.random() >= eagerness:
        return log_mel, stretch
    if rng.random() < config.speed:
        stretch = 1 + rng.uniform(-config.max_speed, config.max_speed)
        log_mel = _stretched(log_mel, stretch)
    if rng.random() < config.warp:
        log_mel = log_mel @ warp_matrix(log_mel.shape[1], 1 + rng.uniform(-config.max_warp, config.max_warp))
    if config.tone and rng.random() < config.tone:
        log_mel = np.maximum(log_mel + tone_curve(log_mel.shape[1], config.tone_db, rng), FLOOR)
    if config.texture:
        log_mel = textured(log_mel, config.texture, rng)
    loudest = float(np.sort(log_mel.max(axis=1))[-max(1, len(log_mel) // 10)])
    if rng.random() < config.reverb:
        log_mel = reverberant(log_mel, rng.uniform(5.0, config.max_decay_frames), rng.uniform(-2.0, 0.5))
    if rng.random() < config.noise:
        level = loudest - rng.uniform(config.snr_db[0], config.snr_db[1]) * np.log(10) / 10
        log_mel = together(log_mel, coloured_noise(log_mel.shape, level, rng), rng)
    if config.babble and other is not None and rng.random() < config.babble:
        log_mel = together(log_mel, _babble(len(log_mel), loudest, config, rng, other), rng)
    if rng.random() < config.band:
        low, high = int(rng.integers(0, 12)), int(rng.integers(52, 76))  # about 300 to 3400 Hz at the narrowest
        log_mel = log_mel.copy()
        outside = np.r_[0:low, high : log_mel.shape[1]]
        log_mel[:, outside] = np.maximum(log_mel[:, outside] - rng.uniform(6.0, 12.0), FLOOR)
    if rng.random() < config.gain:
        log_mel = np.maximum(log_mel + rng.uniform(config.gain_db[0], config.gain_db[1]) * np.log(10) / 10, FLOOR)
    return log_mel.astype(np.float32, copy=False), stretch


def coloured_noise(shape: tuple[int, ...], level: float, rng: np.random.Generator) -> LogMel:
    """Noise of a smooth random spectrum and a slowly moving level, its loudest bin around ``level``.

    From below brown to nearly white: the last of 80 mel bins, which are the wider the higher, has of brown noise 1, of
    pink 6 and of white 11 more than the first, in natural logarithms of power.
    """
    frames, bins = shape
    spectrum = np.interp(np.arange(bins), np.linspace(0, bins - 1, 6), rng.normal(0, 1.3, 6))
    spectrum += np.linspace(0.0, rng.uniform(*TILT), bins)
    spectrum -= spectrum.max()
    drift = np.interp(np.arange(frames), np.linspace(0, frames, 6), rng.normal(0, rng.uniform(0, 1), 6))
    steady = (level + spectrum)[None].astype(np.float32) + drift[:, None].astype(np.float32)
    return np.asarray(steady + noise_grain(shape, rng))


def _babble(
    frames: int, loudest: float, config: FeatureAugmentConfig, rng: np.random.Generator, other: Callable[[], LogMel]
) -> LogMel:
    """One to four others [T, F], each from a random place on and looped, equally loud."""
    level = loudest - rng.uniform(config.babble_db[0], config.babble_db[1]) * np.log(10) / 10
    talk = list[LogMel]()
    for _ in range(int(rng.integers(1, TALKERS + 1))):
        said = other()
        looped = np.take(said, np.arange(frames) + int(rng.integers(len(said))), axis=0, mode="wrap")
        talk.append(looped + np.float32(level - said.max()))
    return reduce(lambda one, another: together(one, another, rng), talk)


def tone_curve(bins: int, spread_db: float, rng: np.random.Generator) -> LogMel:
    """[F]: a smooth random gain around 0, in units of log-mels."""
    curve = np.interp(np.arange(bins), np.linspace(0, bins - 1, 8), rng.normal(0, spread_db, 8))
    return np.asarray((curve - curve.mean()) * np.log(10) / 10, dtype=np.float32)


def textured(log_mel: LogMel, share: float, rng: np.random.Generator) -> LogMel:
    """Another synthesiser's grain: each of four changes a share of the times.

    Voices made by parametric, concatenative and neural synthesis differ in how sharp formants and onsets are, how rough
    a steady vowel is from frame to frame and how deep its valleys are; no warp or filter turns one into another.
    """
    if rng.random() < share:
        log_mel = log_mel + np.float32(rng.uniform(-0.8, 1.0)) * (smoothed(log_mel, 1) - log_mel)
    if rng.random() < share:
        log_mel = log_mel + np.float32(rng.uniform(-0.5, 1.0)) * (smoothed(log_mel, 0) - log_mel)
    if rng.random() < share:
        roughness = np.float32(rng.uniform(0.0, 0.9))
        log_mel = log_mel + roughness * rng.standard_normal(log_mel.shape, dtype=np.float32)
    if rng.random() < share:
        average = log_mel.mean(axis=0, keepdims=True)
        log_mel = average + np.float32(rng.uniform(0.75, 1.25)) * (log_mel - average)
    return np.maximum(log_mel, np.float32(FLOOR))


def smoothed(log_mel: LogMel, axis: int) -> LogMel:
    """The mean over neighbours along ``axis``, weighted 1 4 6 4 1; ends repeat."""
    for _ in range(2):
        padded = np.concatenate([log_mel.take([0], axis), log_mel, log_mel.take([-1], axis)], axis)
        low, middle, high = (padded.take(np.arange(log_mel.shape[axis]) + shift, axis) for shift in range(3))
        log_mel = (low + 2 * middle + high) / 4
    return log_mel


def warp_matrix(bins: int, factor: float) -> LogMel:
    """[F, F]: bin f of the result is read at f * factor, the edge repeated."""
    at = np.clip(np.arange(bins) * factor, 0, bins - 1)
    low = np.minimum(at.astype(int), bins - 2)
    matrix = np.zeros((bins, bins), np.float32)
    matrix[low, np.arange(bins)] = 1 - (at - low)
    matrix[low + 1, np.arange(bins)] += at - low
    return matrix


def reverberant(log_mel: LogMel, decay_frames: float, level: float) -> LogMel:
    """Add each frame's energy to later ones, ``level`` below itself and falling by 60 dB in ``decay_frames``."""
    energy = np.exp(log_mel)
    ratio, late, step = np.exp(-np.log(1e6) / decay_frames), energy.copy(), 1
    while step < min(4 * decay_frames, len(energy)):  # doubling sums: after each pass late covers 2 * step frames
        late[step:] += ratio**step * late[:-step].copy()
        step *= 2
    result = energy
    result[1:] += np.float32(np.exp(level) * ratio) * late[:-1]
    return np.asarray(np.log(result), dtype=np.float32)


def _stretched(log_mel: LogMel, factor: float) -> LogMel:
    frames = max(2, round(len(log_mel) * factor))
    at = np.linspace(0, len(log_mel) - 1, frames)
    low = np.minimum(at.astype(int), len(log_mel) - 2)
    part = (at - low)[:, None].astype(np.float32)
    return np.asarray(log_mel[low] * (1 - part) + log_mel[low + 1] * part, dtype=np.float32)
