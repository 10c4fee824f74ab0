"""Training targets and loss of the speech decoder. Knows nothing of its layers."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from icebreaker.models.codec_lm import CodecLMConfig, Taught
from icebreaker.models.codec_lm_attention import text_attention

__all__ = ["accuracy", "alignment_loss", "cross_entropy", "targets"]


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


def alignment_loss(taught: Taught, first: Tensor, last: Tensor, layer: int, split: int) -> Tensor:
    """How far one layer is from looking at the word it speaks (ours: it makes few data enough to learn to read).

    Args:
        taught: a teacher-forced pass.
        first: [B, T + 1] the first text token of the word that is spoken at each step, negative where none is.
        last: [B, T + 1] the token after its last one.
        layer: of the autoregressive stack; the mean over its heads counts.
        split: context positions per text token.

    Returns:
        mean negative logarithm of the attention to the word, over all steps that speak one.
    """
    weights = text_attention(taught.stacked, taught.context, layer, split)
    place = torch.arange(weights.shape[-1], device=weights.device)
    on_word = (place >= first[..., None]) & (place < last[..., None])
    known = first >= 0
    amount = (weights * on_word).sum(dim=-1)[known]
    loss: Tensor = -(amount + 1e-6).log().mean() if len(amount) else weights.new_zeros(())
    return loss
