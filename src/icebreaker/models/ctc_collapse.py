"""From one value a frame to CTC units, as frames arrive. Knows nothing of where frames come from.

Runs of equal values become one, then blanks go: [1, 1, 2, blank, 2] is [1, 2, 2]. What a prefix of the frames gives is
a prefix of what all of them give, so units that were handed out never change; the newest frame is all there is to
remember.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["CollapseState", "collapse", "initial_collapse"]

NOTHING = -1  # before the first frame: equal to no unit and to no blank


class CollapseState(NamedTuple):
    """What the next frames need of the past."""

    newest: Tensor  # [B] value of the newest frame, ``NOTHING`` before the first


def initial_collapse(batch: int, device: torch.device | str = "cpu") -> CollapseState:
    """Before the first frame."""
    return CollapseState(torch.full((batch,), NOTHING, dtype=torch.long, device=device))


def collapse(
    frames: Tensor, lengths: Tensor, blank: int, state: CollapseState
) -> tuple[tuple[tuple[int, ...], ...], CollapseState]:
    """Advance by some frames.

    Args:
        frames: [B, T] best value of each frame.
        lengths: [B] frames of each row; a row of 0 stays as it was.
        blank: the value that stands for nothing.
        state: from ``initial_collapse`` or the previous call.

    Returns:
        The new units of each row, and the next state.
    """
    before = torch.cat([state.newest[:, None], frames], dim=1)  # [B, 1 + T]
    inside = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
    kept = (frames != before[:, :-1]) & (frames != blank) & inside
    units = tuple(tuple(row[keep].tolist()) for row, keep in zip(frames, kept, strict=True))
    return units, CollapseState(before.gather(1, lengths[:, None]).squeeze(1))
