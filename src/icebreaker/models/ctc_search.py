"""Prefix beam search over CTC with a language model (Hannun et al., arXiv:1408.2873). Knows no sound and no modules."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CTCSearchConfig", "ctc_search"]

NEVER = -1e30
Scorer = Callable[[tuple[int, ...], NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class CTCSearchConfig:
    """How CTC and language model weigh.

    Attributes:
        weight: of the language model's log-probabilities against CTC's.
        bonus: added for each token, against the language model's liking of few.
        beam: prefixes kept after each frame.
        choices: tokens looked at in a frame.
        least: log-probability below which CTC's tokens are not looked at.
    """

    weight: float = 0.8
    bonus: float = 1.5
    beam: int = 16
    choices: int = 16
    least: float = -10.0

    def __post_init__(self) -> None:
        if min(self.beam, self.choices) < 1:
            raise ValueError(f"beam and choices: expected at least 1, got {self.beam} and {self.choices}")


@dataclass
class _Prefix:
    """A beginning of the utterance: log-probabilities of all its paths that end in a blank, or in its last token."""

    blank: float
    token: float
    said: float  # by the language model, weighted, bonuses included

    @property
    def both(self) -> float:
        return _either(self.blank, self.token)

    @property
    def score(self) -> float:
        return self.both + self.said


def ctc_search(log_p: NDArray[np.float32], begin: int, end: int, scorer: Scorer, config: CTCSearchConfig) -> list[int]:
    """The likeliest tokens of CTC log-probabilities [T, 1 + V] (blank first) under a language model.

    Args:
        log_p: of the utterance.
        begin: what stands before its first token, for the scorer.
        end: likewise after its last.
        scorer: log-probabilities [n] of n tokens after a context.
        config: weights and widths.
    """
    choices = min(config.choices, log_p.shape[1])
    found = np.argpartition(-log_p, choices - 1, axis=1)[:, :choices]
    prefixes: dict[tuple[int, ...], _Prefix] = {(): _Prefix(0.0, NEVER, 0.0)}
    for frame, best in zip(log_p, found, strict=True):
        blank = float(frame[0])
        tokens = np.array([choice - 1 for choice in best if choice and frame[choice] > config.least], np.int64)
        heard = frame[tokens + 1].tolist()
        grown = dict[tuple[int, ...], _Prefix]()
        for prefix, at in prefixes.items():
            both = at.both
            _add(grown, prefix, both + blank, NEVER, at.said)
            if not len(tokens):
                continue
            liked = scorer((begin, *prefix), tokens).tolist()
            for token, sound, like in zip(tokens.tolist(), heard, liked, strict=True):
                said = at.said + config.weight * like + config.bonus
                if prefix and token == prefix[-1]:
                    _add(grown, prefix, NEVER, at.token + sound, at.said)
                    _add(grown, (*prefix, token), NEVER, at.blank + sound, said)
                else:
                    _add(grown, (*prefix, token), NEVER, both + sound, said)
        kept = sorted(grown.items(), key=lambda each: -each[1].score)[: config.beam]
        prefixes = dict(kept)
    over = np.array([end], np.int64)
    scores: dict[tuple[int, ...], float] = {
        prefix: at.score + config.weight * float(scorer((begin, *prefix), over)[0]) for prefix, at in prefixes.items()
    }
    likeliest: tuple[int, ...] = max(scores, key=lambda prefix: scores[prefix])
    return list(likeliest)


def _add(
    prefixes: dict[tuple[int, ...], _Prefix], prefix: tuple[int, ...], blank: float, token: float, said: float
) -> None:
    there = prefixes.get(prefix)
    if there is None:
        prefixes[prefix] = _Prefix(blank, token, said)
    else:
        there.blank, there.token = _either(there.blank, blank), _either(there.token, token)


def _either(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    high, low = (a, b) if a > b else (b, a)
    return high if low <= NEVER / 2 else high + math.log1p(math.exp(low - high))
