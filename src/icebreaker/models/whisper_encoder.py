"""Whisper's encoder, the ears of LLaMA-Omni (arXiv:2409.06666v2, section 3.1). Knows nothing of waveforms or prompts.

Two convolutions, a stored position table, pre-norm transformer blocks with full attention: every frame hears all of the
30 s, silence included, so it cannot stream; a turn is encoded when it is over. The output is that of the last norm.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.nn.attention import attend

__all__ = ["WhisperConfig", "WhisperEncoder"]

STRIDE = 2  # mel frames per encoder frame
MLP = 4  # width of the inner layer over the width


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    """Sizes; the defaults are those of large-v3."""

    mels: int = 128
    frames: int = 1500
    width: int = 1280
    heads: int = 20
    layers: int = 32

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")


class WhisperBlock(nn.Module):
    """Attention and a GELU MLP, each behind a norm and added to the residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, MLP * width)
        self.down = nn.Linear(MLP * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        normed = self.attention_norm(x)
        query, key, value = (
            project(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )  # [B, H, T, D / H] each
        x = x + self.out(attend(query, key, value).transpose(1, 2).flatten(2))
        widened: Tensor = self.down(F.gelu(self.up(self.mlp_norm(x))))
        return x + widened


class WhisperEncoder(nn.Module):
    """Log-mel of 30 s to one vector every 20 ms."""

    position: Tensor

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.mels, config.width, 3, padding=1)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, stride=STRIDE, padding=1)
        # As stored: the published table is in half precision, so computing it anew would differ by 2.4e-4.
        self.register_buffer("position", torch.zeros(config.frames, config.width))
        self.blocks = nn.ModuleList(WhisperBlock(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Encode.

        Args:
            log_mel: [B, 2 * frames, mels], from ``audio.whisper_mel``.

        Returns:
            [B, frames, D], after the last norm.

        Raises:
            ValueError: the shape is another.
        """
        expected = (STRIDE * self.config.frames, self.config.mels)
        if log_mel.dim() != 3 or tuple(log_mel.shape[1:]) != expected:
            raise ValueError(f"expected log-mel [B, {expected[0]}, {expected[1]}], got {list(log_mel.shape)}")
        x = F.gelu(self.conv1(log_mel.to(self.conv1.weight.dtype).mT))
        x = F.gelu(self.conv2(x)).mT + self.position
        for block in self.blocks:
            x = block(x)
        encoded: Tensor = self.norm(x)
        return encoded
