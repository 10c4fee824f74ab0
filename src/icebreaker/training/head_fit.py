"""Fits a linear head to hidden states that no longer change. Knows nothing of speech or turns.

With everything before it fixed, the head's loss is convex: a few hundred passes of L-BFGS over stored states find its
minimum in seconds, where stochastic steps through the LLM are still on their way after minutes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from icebreaker.errors import TrainingError
from icebreaker.models.turn_head import TurnHead

__all__ = ["fit_head"]


def fit_head(
    head: TurnHead, states: Tensor, labels: Tensor, *, ridge: float = 1e-3, iterations: int = 300, ignore: int = 3
) -> float:
    """Minimise the mean cross entropy plus ``ridge / 2`` times the squared weights, from where the head stands.

    The penalty is on the weights of standardised states, so it does not depend on their scale.

    Args:
        head: changed in place.
        states: [N, D] hidden states.
        labels: [N] classes.
        ridge: of the penalty.
        iterations: at most.
        ignore: the label that does not count.

    Returns:
        The cross entropy reached.

    Raises:
        TrainingError: no state has a label that counts.
    """
    known = labels != ignore
    if not known.any():
        raise TrainingError("no state to fit the turn head to: every label says ignore; make more scenes")
    states, labels = states[known].float(), labels[known]
    mean, deviation = states.mean(dim=0), states.std(dim=0, correction=0).clamp(min=1e-5)
    standard = (states - mean) / deviation
    linear = head.linear
    weight = (linear.weight.detach() * deviation).requires_grad_()
    bias = (linear.bias.detach() + linear.weight.detach() @ mean).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(standard, weight, bias), labels) + ridge / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        linear.weight.copy_(weight / deviation)
        linear.bias.copy_(bias - (weight / deviation) @ mean)
        return float(F.cross_entropy(head.logits(states), labels))
