"""Discrete speech units: the nearest of K centres for every frame, and runs of them. Knows nothing of files or models.

Units as arXiv:2409.06666v2 uses them: k-means clusters of self-supervised features, consecutive duplicates merged; how
long each lasted is what a vocoder's duration predictor learns.
"""

import torch
from torch import Tensor, nn

__all__ = ["Quantiser", "merge_runs", "repeat_runs"]

ROWS = 4096  # frames compared with all centres at a time: bounds the memory of long recordings


class Quantiser(nn.Module):
    """K-means centres [K, D] as a function from frames to unit numbers."""

    centres: Tensor

    def __init__(self, centres: Tensor) -> None:
        """Take centres [K, D].

        Raises:
            ValueError: they are no matrix of at least two finite rows.
        """
        super().__init__()
        if centres.dim() != 2 or len(centres) < 2 or not torch.isfinite(centres).all():
            raise ValueError(f"expected at least two finite centres [K, D], got shape {tuple(centres.shape)}")
        self.register_buffer("centres", centres.float())

    @property
    def units(self) -> int:
        """How many different units there are."""
        return len(self.centres)

    def forward(self, frames: Tensor) -> Tensor:
        """The unit [T] of every frame of [T, D]: the centre at the least Euclidean distance.

        Raises:
            ValueError: the frames are not as wide as the centres.
        """
        if frames.shape[-1] != self.centres.shape[1]:
            raise ValueError(
                f"the k-means centres are {self.centres.shape[1]} wide, the features {frames.shape[-1]}; use the "
                "centres that were fitted on features of this model and layer"
            )
        half = 0.5 * self.centres.square().sum(dim=1)
        chosen = [(half - rows @ self.centres.T).argmin(dim=1) for rows in frames.float().split(ROWS)]
        return torch.cat(chosen) if chosen else frames.new_zeros(0, dtype=torch.long)


def merge_runs(units: Tensor) -> tuple[Tensor, Tensor]:
    """Units [T] without consecutive duplicates [N], and how many frames each of them lasted [N]."""
    merged, durations = torch.unique_consecutive(units, return_counts=True)
    return merged, durations


def repeat_runs(units: Tensor, durations: Tensor) -> Tensor:
    """Undo ``merge_runs``: units [N] lasting ``durations`` [N] frames each, as [T]."""
    return units.repeat_interleave(durations)
