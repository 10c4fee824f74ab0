"""Muon: hidden matrices are moved by their orthogonalised momentum, all else by AdamW. Knows nothing of models.

After Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks", with the scale of Liu et al.
(arXiv:2502.16982, section 2.2), by which a learning rate means what it means to AdamW. ``torch.optim.Muon`` takes
matrices only; this is one optimizer with one state, for the one loop, its checkpoints and its schedule.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from icebreaker.training.devices import has_bfloat16

__all__ = ["Muon", "hidden_matrices", "orthogonal"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz step: singular values to 0.7 .. 1.2, fast
STEPS = 5
MOMENTUM = 0.95
RMS = 0.2  # of an update of AdamW, on average
SLENDER = 8  # times as long as wide: an embedding or a head, whose rows have meanings of their own


def hidden_matrices(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Trained weights of linear layers from features to features; not of embeddings and heads, which are slender."""
    linear = [m.weight for module in modules for m in module.modules() if isinstance(m, nn.Linear)]
    return [w for w in dict.fromkeys(linear) if w.requires_grad and max(w.shape) < SLENDER * min(w.shape)]


class Muon(torch.optim.Optimizer):
    """Groups with ``orthogonal = True`` hold matrices for Muon, others are AdamW's; settings are AdamW's."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(list(groups), {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            chosen = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["orthogonal"]:
                for parameter in chosen:
                    self._turn(parameter, group)
            elif chosen:
                self._scale(chosen, group)

    def _turn(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        update = orthogonal(gradient.lerp(state["momentum"], MOMENTUM))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * RMS * max(parameter.shape) ** 0.5)

    def _scale(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter),
                }  # fmt: skip
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters, [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states], [],
            [state["step"] for state in states], foreach=True, amsgrad=False,
            beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"],
            weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of ``matrix`` [A, B] = U S V^T, by Newton-Schulz (in bfloat16 where quick); same shape and type."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(torch.bfloat16 if has_bfloat16(matrix.device) else torch.float32)
    x = x / (x.norm() + 1e-7)  # no singular value above 1
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)
