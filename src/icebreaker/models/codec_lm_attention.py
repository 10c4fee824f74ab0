"""Where the speech decoder looks while it speaks. Knows nothing of training, words or time."""

import torch
from torch import Tensor

from icebreaker.models.codec_lm import Stacked

__all__ = ["text_attention"]


def text_attention(stacked: Stacked, context: int, layer: int, split: int) -> Tensor:
    """How much of its attention one autoregressive layer gives to each text token, at each step.

    Args:
        stacked: of a teacher-forced pass.
        context: its positions that are context.
        layer: whose heads are averaged.
        split: context positions per text token.

    Returns:
        [B, T + 1, L]: step t draws code t, the last one the end. What prefix, bos and speech get is left out.
    """
    query, key = stacked.queries[layer][:, :, context:], stacked.keys[layer]
    scores = query @ key.mT / key.shape[-1] ** 0.5
    weights = scores.masked_fill(~stacked.mask[:, :, context:], -torch.inf).softmax(dim=-1).mean(dim=1)
    begin = stacked.mask.shape[-1] - stacked.mask.shape[-2] + 1  # past prefix and bos
    pieces = weights[..., begin : begin + context - 1]
    of_tokens: Tensor = pieces.unflatten(-1, (-1, split)).sum(dim=-1)
    return of_tokens
