"""Fits the turn head to hidden states that no longer change. Knows nothing of speech or turns.

With everything before it fixed, thousands of small steps over stored states take seconds, where steps through the LLM
are still on their way after minutes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from icebreaker.errors import TrainingError
from icebreaker.models.turn_head import TurnHead

__all__ = ["fit_head"]

ROWS, RATE, DECAY, DROPPED = 1024, 2e-3, 1e-2, 0.2


def fit_head(head: TurnHead, states: Tensor, labels: Tensor, *, steps: int = 1500, ignore: int = 3) -> float:
    """Minimise the mean cross entropy; the first layer is drawn anew, for states of mean 0 and deviation 1.

    Args:
        head: changed in place.
        states: [N, D] hidden states.
        labels: [N] classes.
        steps: of AdamW, the rate falling to nothing; a fifth of a hidden layer is dropped in each.
        ignore: the label that does not count.

    Returns:
        The cross entropy reached on ``states``.

    Raises:
        TrainingError: no state has a label that counts.
    """
    known = labels != ignore
    if not known.any():
        raise TrainingError("no state to fit the turn head to: every label says ignore; make more scenes")
    states, labels = states[known].float(), labels[known]
    mean, deviation = states.mean(dim=0), states.std(dim=0, correction=0).clamp(min=1e-5)
    standard = (states - mean) / deviation
    first = head.linear if head.hidden is None else head.hidden
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        first.weight.copy_(torch.randn(first.weight.shape, generator=generator) * first.in_features**-0.5)
        first.bias.zero_()
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(standard), (min(ROWS, len(standard)),), generator=generator).to(states.device)
        read = head.between(standard[rows])
        if head.hidden is not None:
            kept = torch.rand(read.shape, generator=generator).to(read.device) >= DROPPED
            read = read * kept / (1 - DROPPED)
        optimizer.zero_grad()
        F.cross_entropy(head.linear(read), labels[rows]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        first.weight /= deviation
        first.bias.sub_(first.weight @ mean)
        return float(F.cross_entropy(head.logits(states), labels))
