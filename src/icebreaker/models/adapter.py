"""Adapter: encoder frames to LLM input embeddings, halving the rate. Knows only the widths of its neighbours.

All convolutions are padded on the left, so every form streams (the official code streams "subsampling" only).
Ours, for small LLMs: ``vocabulary`` over 0 turns every vector into a mixture of the LLM's token embeddings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.models.token_lookup import TokenLookup

__all__ = ["Adapter", "AdapterConfig", "AdapterState"]

NORM_EPS = 1e-3


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Defaults are those of the published Freeze-Omni adapter (arXiv:2411.00774, section 3.2)."""

    kind: Literal["linear", "cnn", "subsampling"] = "subsampling"
    encoder_dim: int = 1024
    llm_dim: int = 3584
    kernel_size: int = 5
    norm: Literal["batch", "layer"] = "layer"  # of the one-convolution form; the others use batch norm
    activation: Literal["gelu", "relu"] = "gelu"  # likewise; the others use ReLU
    vocabulary: int = 0  # tokens of the LLM, see ``token_lookup``

    def __post_init__(self) -> None:
        if self.kernel_size < 2:
            raise ValueError(f"expected kernel_size of at least 2, the stride, got {self.kernel_size}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each convolution: two convolutions in the official code where 4 encoder_dim < llm_dim."""
        if self.kind == "linear":
            return ()
        if self.kind == "cnn" or 4 * self.encoder_dim < self.llm_dim:
            return (2 * self.encoder_dim, 4 * self.encoder_dim)
        return (2 * self.encoder_dim,)


class AdapterState(NamedTuple):
    """The newest input columns of each convolution."""

    contexts: tuple[Tensor, ...]  # [B, channels, kernel_size - 1] each


class Adapter(nn.Module):
    """Causal convolutions and a projection (arXiv:2411.00774, section 3.2; official implementation)."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        inputs = (config.encoder_dim, *config.widths)
        plain = len(config.widths) != 1  # forms whose norm and activation cannot be chosen
        self.stride = 2 if config.kind == "subsampling" else 1
        strides = [1] * (len(config.widths) - 1) + [self.stride]
        self.blocks = nn.ModuleList(
            _Block(
                *(inputs[i], inputs[i + 1], config.kernel_size, strides[i]),
                norm="batch" if plain else config.norm,
                activation="relu" if plain else config.activation,
            )
            for i in range(len(config.widths))
        )
        self.project = nn.Linear(inputs[-1], config.llm_dim)
        self.lookup = TokenLookup(config.vocabulary, config.llm_dim) if config.vocabulary else None

    def initial_state(self, batch: int) -> AdapterState:
        """The state of ``batch`` sessions that have heard nothing."""
        config, weight = self.config, self.project.weight
        inputs = (config.encoder_dim, *config.widths)[:-1]
        return AdapterState(tuple(weight.new_zeros(batch, width, config.kernel_size - 1) for width in inputs))

    def forward(self, frames: Tensor, state: AdapterState, mask: Tensor | None = None) -> tuple[Tensor, AdapterState]:
        """Advance by T frames; a whole recording is one call from ``initial_state``.

        Args:
            frames: [B, T, D_enc] at 25 Hz. In a stream T must be a multiple of ``stride`` in every call but the last.
            state: from ``initial_state`` or the previous call.
            mask: [B, T] true on real frames; the others count as silence (zeros).

        Returns:
            [B, ceil(T / stride), D_llm] embeddings, and the next state. Embedding m sees frames up to m * stride; it is
            real where ``mask[:, ::stride]`` is true.
        """
        vectors, state = self.project_frames(frames, state, mask)
        return vectors if self.lookup is None else self.lookup(vectors), state

    def project_frames(
        self, frames: Tensor, state: AdapterState, mask: Tensor | None = None
    ) -> tuple[Tensor, AdapterState]:
        """``forward`` without the lookup."""
        x = frames if mask is None else frames.masked_fill(~mask.unsqueeze(-1), 0.0)
        x, contexts = x.mT, []
        for block, context in zip(self.blocks, state.contexts, strict=True):
            x, context = block(x, context)
            contexts.append(context)
        return self.project(x.mT), AdapterState(tuple(contexts))


class _Block(nn.Module):
    """Left context, Conv1d, norm, activation, on [B, channels, T]."""

    def __init__(
        self, width_in: int, width_out: int, kernel_size: int, stride: int, norm: str, activation: str
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width_in, width_out, kernel_size, stride=stride)
        self.norm: nn.BatchNorm1d | nn.LayerNorm
        self.norm = (
            nn.BatchNorm1d(width_out, eps=NORM_EPS) if norm == "batch" else nn.LayerNorm(width_out, eps=NORM_EPS)
        )
        self.activation: Callable[[Tensor], Tensor] = F.gelu if activation == "gelu" else F.relu

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C_in, T] to [B, C_out, ceil(T / stride)], and the next context."""
        x = torch.cat([context, x], dim=-1)
        context = x[..., x.shape[-1] - context.shape[-1] :]
        y = self.conv(x)
        y = self.norm(y) if isinstance(self.norm, nn.BatchNorm1d) else self.norm(y.mT).mT
        return self.activation(y), context
