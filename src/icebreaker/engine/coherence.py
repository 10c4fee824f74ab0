"""Whether a stretch of sound is a delayed copy of another one: generalised cross-correlation. Knows no session.

An echo is the played waveform through a linear system, so its whitened cross-correlation with what was played has a
peak; other speech, however alike its envelope, has none. The weighting is that of the phase transform (Knapp and
Carter, 1976) to the power of 0.7, which noise harms less.
"""

import numpy as np
from numpy.typing import NDArray

from icebreaker.engine.hearing import SAMPLE_RATE
from icebreaker.engine.messages import Waveform

__all__ = ["copy_strength"]

BAND_HZ = (200, 6000)
WHITENING = 0.7
SILENT = 1e-3  # peak of what was played below which there is nothing to copy


def copy_strength(played: Waveform, heard: Waveform, delays: NDArray[np.bool_]) -> float:
    """How far the cross-correlation's highest peak sticks out of its root mean square.

    Args:
        played: [L + S] samples at 16 kHz, up to the end of ``heard`` if there were no delay.
        heard: [S].
        delays: [L + 1], of how many samples, that are possible.

    Returns:
        About 6 to 9 for something else, more for a copy; 0 where nothing was played or nothing is possible.
    """
    if len(played) != len(delays) - 1 + len(heard):
        raise ValueError(f"expected {len(delays) - 1} samples more than {len(heard)}, got {len(played)} played ones")
    if np.abs(played).max(initial=0.0) < SILENT or not delays.any():
        return 0.0
    size = 1 << (len(played) + len(heard) - 1).bit_length()
    cross = np.fft.rfft(played, size) * np.conj(np.fft.rfft(heard * np.hanning(len(heard)), size))
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    cross *= (hertz > BAND_HZ[0]) & (hertz < BAND_HZ[1])
    correlation = np.abs(np.fft.irfft(cross / np.maximum(np.abs(cross), 1e-9) ** WHITENING, size)[: len(delays)])
    return float(correlation[::-1][delays].max() / max(1e-12, np.sqrt(np.mean(correlation**2))))
