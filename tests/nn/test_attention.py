"""Attention: step by step where gradients are wanted on a CPU, torch's fused kernel elsewhere."""

import pytest
import torch
import torch.nn.functional as F

from icebreaker.nn.attention import attend

SEEN = torch.ones(2, 1, 7, 9, dtype=torch.bool).tril(2)
BLIND = SEEN & (torch.arange(7) != 3)[:, None]
ADDED = torch.linspace(-2, 2, 2 * 3 * 7 * 9).view(2, 3, 7, 9)


@pytest.mark.parametrize(
    "mask",
    [None, SEEN, ADDED, BLIND, ADDED.masked_fill(~BLIND, -torch.inf)],
    ids=["none", "seen", "added", "blind", "all"],
)
@pytest.mark.parametrize("scale", [None, 0.2])
def test_attention_and_its_gradients_are_those_of_the_fused_kernel(
    mask: torch.Tensor | None, scale: float | None
) -> None:
    torch.manual_seed(0)
    ours = [torch.randn(2, 3, length, 8, requires_grad=True) for length in (7, 9, 9)]
    theirs = [each.detach().clone().requires_grad_() for each in ours]
    attended = attend(*ours, mask, scale=scale)
    expected = F.scaled_dot_product_attention(*theirs, attn_mask=mask, scale=scale)
    torch.testing.assert_close(attended, expected)
    weights = torch.randn_like(attended)
    (attended * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_what_is_added_to_scores_learns() -> None:
    query, key, value = (torch.randn(1, 1, 4, 8, requires_grad=True) for _ in range(3))
    added = torch.zeros(1, 1, 4, 4, requires_grad=True)
    attend(query, key, value, added).square().sum().backward()
    assert added.grad is not None
    assert added.grad.abs().max() > 0


def test_dropout_leaves_the_mean() -> None:
    torch.manual_seed(0)
    query, key = (torch.randn(1, 1, 1, 4, requires_grad=True) for _ in range(2))
    value = torch.ones(1, 1, 1, 4)
    drawn = torch.stack([attend(query, key, value, dropout=0.5) for _ in range(400)])
    assert set(drawn.unique().tolist()) == {0.0, 2.0}
    assert drawn.mean().item() == pytest.approx(1.0, abs=0.2)
