"""Training targets and loss of the speech decoder. Knows nothing of its layers."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from icebreaker.models.codec_lm import CodecLMConfig

__all__ = ["accuracy", "cross_entropy", "targets"]


def targets(codes: Tensor, code_lengths: Tensor, config: CodecLMConfig) -> Tensor:
    """What the logits should predict [B, T + 1]: ``codes`` [B, T] up to ``code_lengths`` [B], eos, then pad."""
    steps = torch.arange(codes.shape[1] + 1, device=codes.device)
    extended = F.pad(codes, (0, 1)).masked_fill(steps > code_lengths[:, None], config.pad)
    return extended.masked_fill(steps == code_lengths[:, None], config.eos)


def cross_entropy(
    logits: Tensor, expected: Tensor, config: CodecLMConfig, reduction: Literal["mean", "sum", "none"] = "mean"
) -> Tensor:
    """Cross entropy over codes and eos.

    Args:
        logits: [B, T + 1, codes + 4].
        expected: [B, T + 1] from ``targets``.
        config: for the pad id, which costs nothing.
        reduction: per token; ``sum`` is the official loss.
    """
    return F.cross_entropy(logits.float().mT, expected, ignore_index=config.pad, reduction=reduction)


def accuracy(logits: Tensor, expected: Tensor, config: CodecLMConfig) -> Tensor:
    """Share of tokens, eos included, whose best guess is right: a scalar."""
    scored = expected != config.pad
    return ((logits.argmax(dim=-1) == expected) & scored).sum() / scored.sum()
