"""SpecAugment: hide bands and stretches of a filter bank. Knows nothing of models.

arXiv:1904.08779; the released training configuration of Freeze-Omni names one frequency mask of up to 10 bins and one
time mask of up to 20 frames.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

__all__ = ["SpecAugmentConfig", "spec_augment"]


@dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig:
    """How many masks and how wide; a mask's width is drawn uniformly from 0 to the maximum, both included."""

    frequency_masks: int = 1
    max_bins: int = 10
    time_masks: int = 1
    max_frames: int = 20


def spec_augment(
    fbank: Tensor, lengths: Tensor, fill: Tensor, config: SpecAugmentConfig, rng: np.random.Generator
) -> Tensor:
    """A masked copy of ``fbank`` [B, T, F]; hidden places take ``fill`` [F], the mean of training.

    Masks are drawn per row; time masks lie within the first ``lengths`` [B] frames.
    """
    result = fbank.clone()
    bins = fbank.shape[2]
    for row, length in enumerate(lengths.tolist()):
        for _ in range(config.frequency_masks):
            width = int(rng.integers(0, min(config.max_bins, bins) + 1))
            first = int(rng.integers(0, bins - width + 1))
            result[row, :length, first : first + width] = fill[first : first + width]
        for _ in range(config.time_masks):
            width = int(rng.integers(0, min(config.max_frames, length) + 1))
            first = int(rng.integers(0, length - width + 1))
            result[row, first : first + width] = fill
    return result
