"""Two sounds at once, and noise, as log-mels of waveforms show them. Knows nothing of files or models.

Energies of two waveforms do not add up: where both are about as loud, a mel bin holds anything between their difference
and their sum, since the few Fourier bins under it have phases. Nor is the energy of noise steady: under the lowest
triangles lies one Fourier bin, whose logarithm varies by 1.1, under the highest twenty (0.5). Both are taken from two
stretches of white noise that have gone through the filter bank; nothing here needs a waveform afterwards.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from icebreaker.audio.fbank import SAMPLE_RATE, Fbank

__all__ = ["noise_grain", "together"]

LogMel = NDArray[np.float32]  # [T, F]
SECONDS = 60
LEAST = 1e-3  # of the louder energy that is left where two cancel out


def together(one: LogMel, other: LogMel, rng: np.random.Generator) -> LogMel:
    """Log-mels [T, F] of the sum of two unrelated sounds, of which ``one`` and ``other`` [T, F] are the log-mels.

    log(a + b + c sqrt(a b)), where c, the cosine of the angle between the two under each triangle, is of white noises.
    """
    louder, apart = np.maximum(one, other), np.abs(one - other)
    cosine = _stretch(_white()[1], one.shape, rng)
    energy = 1 + np.exp(-apart) + cosine * np.exp(-apart / 2)
    return np.asarray(louder + np.log(np.maximum(energy, LEAST)), dtype=np.float32)


def noise_grain(shape: tuple[int, ...], rng: np.random.Generator) -> LogMel:
    """[T, F]: the log-mels of steady noise less those of its mean energy."""
    return _stretch(_white()[0], shape, rng)


def _stretch(recorded: LogMel, shape: tuple[int, ...], rng: np.random.Generator) -> LogMel:
    """``shape`` [T, F] of it from a random frame on, around its end if need be."""
    frames, bins = shape
    at = np.arange(frames) + int(rng.integers(len(recorded)))
    return np.asarray(recorded[:, :bins].take(at, axis=0, mode="wrap"))


@cache
def _white() -> tuple[LogMel, LogMel]:
    """Of a minute of white noise: the grain, and the angle to another minute: twice the cosine, [T, 80] each."""
    fbank, generator = Fbank(), torch.Generator().manual_seed(0)
    waveforms = 0.1 * torch.randn(2, SECONDS * SAMPLE_RATE, generator=generator)
    first, second = fbank.spectrum(waveforms)  # [T, 257]
    energies = [torch.matmul(each.abs().square(), fbank.mel) for each in (first, second)]
    across = torch.matmul((first * second.conj()).real, fbank.mel)
    cosine = 2 * across / (energies[0] * energies[1]).sqrt()
    grain = (energies[0] / energies[0].mean(dim=0)).log()
    return grain.numpy(), cosine.numpy()
