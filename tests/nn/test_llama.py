"""Attention of the Llama layers: step by step where gradients are wanted on a CPU, torch's fused kernel elsewhere."""

import pytest
import torch
import torch.nn.functional as F

from icebreaker.nn.llama import attend


@pytest.mark.parametrize("masked", [True, False])
def test_attention_and_its_gradients_are_those_of_the_fused_kernel(masked: bool) -> None:
    torch.manual_seed(0)
    mask = torch.ones(2, 1, 7, 9, dtype=torch.bool).tril(2) if masked else None
    ours = [torch.randn(2, 3, length, 8, requires_grad=True) for length in (7, 9, 9)]
    theirs = [each.detach().clone().requires_grad_() for each in ours]
    attended, expected = attend(*ours, mask), F.scaled_dot_product_attention(*theirs, attn_mask=mask)
    torch.testing.assert_close(attended, expected)
    weights = torch.randn_like(attended)
    (attended * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
