"""From logits to a drawn id: temperature, top-k, top-p, repetition penalty. Knows nothing of where logits come from.

Two of these steps exist in two versions. "usual" is what the literature and most libraries do; "official" is what the
released Freeze-Omni code does, needed to reproduce its output.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["GREEDY", "SamplingConfig", "probabilities", "sample"]

Rule = Literal["usual", "official"]


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How to draw an id. The steps run in the order: penalty, temperature, top-k, top-p."""

    temperature: float = 1.0  # 0: greedy
    top_k: int = 0  # 0: off; 1: greedy
    top_p: float = 0.0  # 0: off
    top_p_rule: Literal["usual", "official"] = "usual"  # official: the id that crosses top_p is dropped too
    repetition_penalty: float = 1.0
    penalty_rule: Literal["usual", "official"] = "usual"  # official: divide once per occurrence, negative logits too
    penalty_window: int = -1  # so many newest ids of the history are penalised; 0 or below: none

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or more, got {self.top_k}")
        if not 0 <= self.top_p <= 1:
            raise ValueError(f"top_p must lie in 0 .. 1, got {self.top_p}")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty must be positive (1 is off), got {self.repetition_penalty}")

    @property
    def greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature == 0 or self.top_k == 1


GREEDY = SamplingConfig(temperature=0.0)


def probabilities(logits: Tensor, config: SamplingConfig, history: Tensor | None = None) -> Tensor:
    """The distribution just before the draw.

    Args:
        logits: [B, V].
        config: the steps.
        history: [B, N] ids drawn so far, newest last, negative where there is none (pad at the front).

    Returns:
        [B, V], each row summing to 1.
    """
    logits = _penalised(logits.float(), config, history)
    if config.greedy:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    weights = (logits / config.temperature).softmax(-1)
    if 0 < config.top_k < weights.shape[-1]:
        kept, ids = weights.topk(config.top_k, dim=-1)
        weights = torch.zeros_like(weights).scatter_(-1, ids, kept / kept.sum(-1, keepdim=True))
    if config.top_p > 0 and not (config.top_p == 1 and config.top_p_rule == "usual"):
        weights = _nucleus(weights, config.top_p, config.top_p_rule)
    return weights


def sample(
    logits: Tensor,
    config: SamplingConfig,
    history: Tensor | None = None,
    generator: torch.Generator | Sequence[torch.Generator | None] | None = None,
) -> Tensor:
    """Draw one id a row, [B] int64.

    Args:
        logits: [B, V].
        config: the steps.
        history: as in ``probabilities``.
        generator: one for the whole batch, or one a row: then a session's draws do not depend on who else is there.
            May live on the CPU whatever the device of the logits.
    """
    if config.greedy:
        return _penalised(logits.float(), config, history).argmax(-1)
    cumulative = probabilities(logits, config, history).double().cumsum(-1)
    generators = generator if isinstance(generator, Sequence) else [generator]
    if isinstance(generator, Sequence) and len(generators) != len(logits):
        raise ValueError(f"expected one generator a row, {len(logits)}, got {len(generators)}")
    count = 1 if isinstance(generator, Sequence) else len(logits)
    draws = [
        torch.rand(count, 1, dtype=torch.float64, generator=g, device=g.device if g else logits.device).to(
            logits.device
        )
        for g in generators
    ]
    threshold = torch.cat(draws) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)


def _penalised(logits: Tensor, config: SamplingConfig, history: Tensor | None) -> Tensor:
    if history is None or config.repetition_penalty == 1 or config.penalty_window <= 0:
        return logits
    recent = history[:, -config.penalty_window :]
    seen = (recent >= 0).to(logits.dtype)
    counts = torch.zeros_like(logits).scatter_add_(-1, recent.clamp(min=0), seen)  # [B, V] occurrences
    if config.penalty_rule == "official":
        return logits / config.repetition_penalty**counts
    softened = torch.where(logits > 0, logits / config.repetition_penalty, logits * config.repetition_penalty)
    return torch.where(counts > 0, softened, logits)


def _nucleus(weights: Tensor, top_p: float, rule: Rule) -> Tensor:
    ordered, ids = weights.sort(-1, descending=True)
    cumulative = ordered.cumsum(-1)
    kept = cumulative <= top_p if rule == "official" else cumulative - ordered < top_p
    kept[..., 0] = True
    ordered = ordered * kept
    return torch.zeros_like(weights).scatter_(-1, ids, ordered / ordered.sum(-1, keepdim=True))
