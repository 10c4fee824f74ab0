"""Sinusoidal position rows, computed on demand so that no recording is too long. Knows nothing of attention."""

import math

import torch
from torch import Tensor

__all__ = ["sinusoid"]


def sinusoid(positions: Tensor, width: int) -> Tensor:
    """Rows P[p, 2i] = sin(p w_i), P[p, 2i+1] = cos(p w_i), w_i = 10000^(-2i / width).

    Args:
        positions: [...] whole numbers.
        width: even number of columns.

    Returns:
        [..., width] float32.
    """
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device)
    angles = positions.float().unsqueeze(-1) * torch.exp(exponents * -(math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
