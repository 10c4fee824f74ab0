"""Noise, rooms, telephones, tempo and level for training recordings, in numpy. Knows nothing of files or models.

Every function takes a float32 waveform [S] in [-1, 1] and returns a new one; randomness comes from the caller's
``np.random.Generator``, so an item's augmentation can be a function of seed and position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

__all__ = [
    "AugmentConfig",
    "add_noise",
    "augment",
    "babble",
    "band_limit",
    "change_level",
    "change_speed",
    "pink_noise",
    "reverberate",
    "room_impulse",
    "white_noise",
]

Waveform = NDArray[np.float32]
LOWEST_PINK_HZ = 20.0
REVERB_DB = 60.0  # reverberation time is the time to fall by this much
DIRECT_SHARE = 0.7  # the least part of a room response's energy in the direct sound


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How often, and between which bounds. Each ``*_share`` is the probability that the change is made at all."""

    noise_share: float = 0.6
    snr_db: tuple[float, float] = (5.0, 30.0)
    room_share: float = 0.4
    reverb_s: tuple[float, float] = (0.1, 0.5)
    band_share: float = 0.25
    low_hz: tuple[float, float] = (20.0, 300.0)
    high_hz: tuple[float, float] = (3000.0, 7500.0)
    speed_share: float = 0.4
    speed: tuple[float, float] = (0.9, 1.1)
    level_db: tuple[float, float] = (-18.0, 3.0)

    def __post_init__(self) -> None:
        for name in ("snr_db", "reverb_s", "low_hz", "high_hz", "speed", "level_db"):
            bounds = getattr(self, name)
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise ValueError(f"{name}: expected a lower and an upper bound, got {bounds}")


def augment(
    waveform: Waveform,
    rng: np.random.Generator,
    config: AugmentConfig,
    *,
    sample_rate: int = 16_000,
    talkers: Sequence[Waveform] = (),
) -> Waveform:
    """One random treatment: tempo, then room, then noise, then band, then level, as sound meets a microphone.

    Args:
        waveform: [S] float32.
        rng: source of all randomness.
        config: shares and bounds.
        sample_rate: Hz.
        talkers: other recordings, from which babble noise is mixed; without them noise is white or pink.

    Returns:
        [S'] float32 within [-1, 1]; only a change of tempo changes the length.
    """
    if rng.random() < config.speed_share:
        waveform = change_speed(waveform, rng.uniform(*config.speed))
    if rng.random() < config.room_share:
        waveform = reverberate(waveform, room_impulse(rng, rng.uniform(*config.reverb_s), sample_rate))
    if rng.random() < config.noise_share:
        waveform = add_noise(waveform, _some_noise(rng, talkers, len(waveform)), rng.uniform(*config.snr_db))
    if rng.random() < config.band_share:
        waveform = band_limit(waveform, rng.uniform(*config.low_hz), rng.uniform(*config.high_hz), sample_rate)
    return change_level(waveform, rng.uniform(*config.level_db))


def _some_noise(rng: np.random.Generator, talkers: Sequence[Waveform], samples: int) -> Waveform:
    kind = rng.integers(3 if talkers else 2)
    return babble(rng, talkers, samples) if kind == 2 else (white_noise, pink_noise)[kind](rng, samples)


def white_noise(rng: np.random.Generator, samples: int) -> Waveform:
    """Equal power at all frequencies, [S], power 1."""
    return rng.standard_normal(samples, dtype=np.float32)


def pink_noise(rng: np.random.Generator, samples: int, sample_rate: int = 16_000) -> Waveform:
    """Power falling by 3 dB an octave, like most rooms, [S], power 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / sample_rate)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, LOWEST_PINK_HZ)), samples)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)), dtype=np.float32)


def babble(rng: np.random.Generator, talkers: Sequence[Waveform], samples: int, voices: int = 4) -> Waveform:
    """Several people talking at once, [S], each looped from a random place and equally loud."""
    noise = np.zeros(samples, dtype=np.float32)
    for index in rng.integers(len(talkers), size=voices):
        talker = talkers[index]
        start = int(rng.integers(len(talker)))
        looped = np.resize(np.roll(talker, -start), samples)
        noise += looped / np.sqrt(np.mean(looped**2) + 1e-12)
    return noise


def add_noise(waveform: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """``waveform`` plus ``noise`` [S], scaled so that their powers are ``snr_db`` apart; silence stays silent."""
    if noise.shape != waveform.shape:
        raise ValueError(f"expected noise of shape {waveform.shape}, got {noise.shape}")
    power, noise_power = np.mean(waveform**2), np.mean(noise**2)
    if not noise_power:
        return waveform
    scale = np.sqrt(power / noise_power / 10 ** (snr_db / 10))
    return np.asarray(waveform + scale * noise, dtype=np.float32)


def room_impulse(rng: np.random.Generator, reverb_s: float, sample_rate: int = 16_000) -> Waveform:
    """A made-up room, [S]: the direct sound, then noise falling by 60 dB in ``reverb_s``, of random strength."""
    samples = max(1, round(reverb_s * sample_rate))
    tail = rng.standard_normal(samples) * 10 ** (-REVERB_DB / 20 * np.arange(samples) / samples)
    tail[0] = 0.0
    direct_share = rng.uniform(DIRECT_SHARE, 1.0)
    impulse = tail * np.sqrt((1 - direct_share) / (np.sum(tail**2) + 1e-12))
    impulse[0] = np.sqrt(direct_share)
    return np.asarray(impulse, dtype=np.float32)


def reverberate(waveform: Waveform, impulse: Waveform) -> Waveform:
    """``waveform`` [S] heard in a room; the direct sound stays in place and the tail past the end is cut."""
    size = len(waveform) + len(impulse) - 1
    spectrum = np.fft.rfft(waveform, size) * np.fft.rfft(impulse, size)
    return np.asarray(np.fft.irfft(spectrum, size)[: len(waveform)], dtype=np.float32)


def band_limit(waveform: Waveform, low_hz: float, high_hz: float, sample_rate: int = 16_000) -> Waveform:
    """Only what lies between ``low_hz`` and ``high_hz``, as a telephone or a poor microphone leaves it."""
    spectrum = np.fft.rfft(waveform)
    frequencies = np.fft.rfftfreq(len(waveform), 1 / sample_rate)
    spectrum[(frequencies < low_hz) | (frequencies > high_hz)] = 0.0
    return np.asarray(np.fft.irfft(spectrum, len(waveform)), dtype=np.float32)


def change_speed(waveform: Waveform, factor: float) -> Waveform:
    """Play ``factor`` times faster: shorter and higher above 1, longer and deeper below."""
    if factor <= 0:
        raise ValueError(f"expected a positive factor, got {factor}")
    return np.asarray(soxr.resample(waveform, factor, 1.0, quality="LQ"), dtype=np.float32)


def change_level(waveform: Waveform, gain_db: float) -> Waveform:
    """Louder or softer; what would leave [-1, 1] is clipped, as a microphone does."""
    return np.asarray(np.clip(waveform * np.float32(10 ** (gain_db / 20)), -1.0, 1.0))
