"""LLaMA-Omni's way from encoder frames to LLM inputs (arXiv:2409.06666v2, section 3.2). Knows nothing of either.

Every k frames are put side by side and go through two layers. A frame's neighbours beyond its own k never matter, so
there is no state, and a chunk of any multiple of k frames gives what the whole would.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.models.token_lookup import TokenLookup

__all__ = ["SpeechAdaptor", "SpeechAdaptorConfig", "SpeechAdaptorState"]


@dataclass(frozen=True, kw_only=True)
class SpeechAdaptorConfig:
    """Sizes.

    Attributes:
        encoder_dim: width of an encoder frame.
        llm_dim: width of the LLM's embeddings.
        stride: k, frames that become one LLM input (``speech_encoder_ds_rate``).
        hidden: width between the layers; fixed in the official implementation.
        vocabulary: ours, as in ``AdapterConfig``: of the LLM whose tokens the adaptor ends in; 0: none, as published.
    """

    encoder_dim: int
    llm_dim: int
    stride: int = 5
    hidden: int = 2048
    vocabulary: int = 0

    def __post_init__(self) -> None:
        if min(self.encoder_dim, self.llm_dim, self.stride, self.hidden) < 1:
            raise ValueError(f"all sizes must be at least 1, got {self}")
        if self.vocabulary < 0:
            raise ValueError(f"vocabulary must be 0 (no lookup) or the LLM's, got {self.vocabulary}")


class SpeechAdaptorState(NamedTuple):
    """Nothing is carried from chunk to chunk."""


class SpeechAdaptor(nn.Module):
    """k frames side by side, a linear layer, ReLU, a linear layer."""

    def __init__(self, config: SpeechAdaptorConfig) -> None:
        super().__init__()
        self.config = config
        self.linear1 = nn.Linear(config.stride * config.encoder_dim, config.hidden)
        self.linear2 = nn.Linear(config.hidden, config.llm_dim)
        self.lookup = TokenLookup(config.vocabulary, config.llm_dim) if config.vocabulary else None

    @property
    def stride(self) -> int:
        """Encoder frames per LLM input."""
        return self.config.stride

    def initial_state(self, batch: int) -> SpeechAdaptorState:
        """What ``forward`` hands through."""
        return SpeechAdaptorState()

    def forward(self, frames: Tensor, state: SpeechAdaptorState) -> tuple[Tensor, SpeechAdaptorState]:
        """Advance by one chunk.

        Args:
            frames: [B, T, D_enc]; T is a multiple of ``stride``.
            state: from ``initial_state`` or the previous call.

        Returns:
            [B, T // stride, D_llm] and the state.

        Raises:
            ValueError: T is not a multiple of ``stride``.
        """
        vectors, state = self.project_frames(frames, state)
        return vectors if self.lookup is None else self.lookup(vectors), state

    def project_frames(self, frames: Tensor, state: SpeechAdaptorState) -> tuple[Tensor, SpeechAdaptorState]:
        """``forward`` without the lookup."""
        if frames.shape[1] % self.config.stride:
            raise ValueError(
                f"expected a multiple of {self.config.stride} frames, got {frames.shape[1]}; "
                "collect whole groups, or use whole() on an utterance"
            )
        return self.vectors(frames), state

    def whole(self, frames: Tensor) -> Tensor:
        """A whole utterance [B, T, D_enc] to [B, T // stride, D_llm]; the last T % stride frames are dropped."""
        vectors = self.vectors(frames)
        return vectors if self.lookup is None else self.lookup(vectors)

    def vectors(self, frames: Tensor) -> Tensor:
        """As ``whole``, before the lookup, if there is one."""
        stride = self.config.stride
        groups = frames[:, : frames.shape[1] // stride * stride].unflatten(1, (-1, stride)).flatten(2)
        adapted: Tensor = self.linear2(F.relu(self.linear1(groups)))
        return adapted
