"""Llama decoder layers with fused projections. Knows nothing of masks' meaning, of caches or of speech.

Pre-norm RMSNorm, rotary positions (rotate-half convention), multi-head attention, SwiGLU, no biases, as the speech
decoder of arXiv:2411.00774 uses them. The three attention projections are one matrix, and so are gate and up: a step
of one token is bound by memory, and fewer, larger reads come closer to the bandwidth.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.nn.attention import attend

__all__ = ["LlamaLayer", "RMSNorm", "Rope", "RopeScaling", "rope"]

THETA = 10_000.0  # rotary base
EPS = 1e-6  # of RMSNorm


class Rope(NamedTuple):
    """Rotation of queries and keys: cosine and signed sine, [B or 1, 1, L, head_dim], float32."""

    cos: Tensor
    sin: Tensor


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3.1's way to longer contexts: slow rotations get slower, fast ones stay, those between are blended.

    Attributes:
        factor: slow rotations turn this many times slower.
        low: rotations with at most this many turns within ``original`` positions are slow.
        high: rotations with at least this many turns are fast.
        original: positions that the model was first trained on.
    """

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    def __post_init__(self) -> None:
        if not self.low < self.high or min(self.factor, self.original) <= 0:
            raise ValueError(f"expected low < high, and a positive factor and original, got {self}")

    def scale(self, frequencies: Tensor) -> Tensor:
        """Frequencies in radians a position, scaled."""
        turns = self.original * frequencies / (2 * math.pi)
        fast = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return (1 - fast) * frequencies / self.factor + fast * frequencies


def rope(
    positions: Tensor,
    head_dim: int,
    *,
    rounded: bool = False,
    theta: float = THETA,
    scaling: RopeScaling | None = None,
) -> Rope:
    """Rotations for ``positions`` [B or 1, L].

    Args:
        positions: any integers from 0.
        head_dim: width of one head, even.
        rounded: round the frequencies to bfloat16, as the official implementation does when it casts its whole
            decoder to bfloat16 on a GPU.
        theta: rotary base.
        scaling: of the frequencies; None: none.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    frequencies = 1.0 / theta**exponents
    if scaling is not None:
        frequencies = scaling.scale(frequencies)
    if rounded:
        frequencies = frequencies.to(torch.bfloat16).float()
    angles = positions[:, None, :, None].float() * frequencies  # [B, 1, L, head_dim / 2]
    cos, sin = angles.cos(), angles.sin()
    return Rope(torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))


class RMSNorm(nn.Module):
    """Divide by the root mean square over the width, then scale."""

    def __init__(self, width: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class LlamaLayer(nn.Module):
    """Attention and SwiGLU, each behind a norm and added to the residual.

    The attention itself is the caller's: ``project`` gives queries, keys and values, ``finish`` takes what was
    attended. So the same layer serves padded training, a prefix, and one token against a cache written in place.

    ``dropout`` falls on what each half adds to the residual (the official implementation drops attention weights).
    """

    def __init__(self, width: int, heads: int, linear_units: int, dropout: float = 0.0, eps: float = EPS) -> None:
        super().__init__()
        if width % heads or (width // heads) % 2:
            raise ValueError(f"width {width} must give {heads} heads an even width each")
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = RMSNorm(width, eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp_norm = RMSNorm(width, eps)
        self.gate_up = nn.Linear(width, 2 * linear_units, bias=False)
        self.down = nn.Linear(linear_units, width, bias=False)
        for wide in (self.qkv, self.gate_up):
            # Column by column in memory: MKL then multiplies one vector 1.5 times as fast, if rows are short.
            wide.weight.data = wide.weight.data.t().contiguous().t()

    def project(self, x: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys and values of ``x`` [B, L, D], each [B, H, L, D / H]."""
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, width // self.heads)
        rotating, value = qkv[:, :, :2], qkv[:, :, 2]
        rotated = _rotate(rotating.flatten(2, 3).transpose(1, 2), rope)  # queries and keys at once
        query, key = rotated.split(self.heads, dim=1)
        return query, key, value.transpose(1, 2)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """``x`` [B, L, D] plus the attention's output (from ``attended`` [B, H, L, D / H]) plus the MLP's."""
        x = x + self._drop(self.out(attended.transpose(1, 2).reshape(x.shape)))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self._drop(self.down(F.silu(gate) * up))

    def forward(self, x: Tensor, rope: Rope, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """One layer over itself: the output [B, L, D] and the keys and values [B, H, L, D / H] it attended.

        Args:
            x: [B, L, D].
            rope: rotations of the L positions.
            mask: [B, 1, L, L], true where a query may look; ``None``: everywhere, in both directions.
        """
        query, key, value = self.project(x, rope)
        return self.finish(x, attend(query, key, value, mask)), key, value

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


def _rotate(x: Tensor, rope: Rope) -> Tensor:
    half = x.shape[-1] // 2
    return (x * rope.cos + torch.roll(x, half, dims=-1) * rope.sin).to(x.dtype)
