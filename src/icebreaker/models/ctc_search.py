"""Prefix beam search over CTC with a language model (Hannun et al., arXiv:1408.2873), as sound comes.

Knows no sound and no modules; where a search stands is a value, so anybody can go on with it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from icebreaker.models.ngram import NGram

__all__ = ["Beam", "CTCSearch", "CTCSearchConfig"]

NEVER = -1e30
REMEMBERED = 20_000  # contexts whose successors are kept; some are looked up in every frame


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


class _Prefix(NamedTuple):
    """A beginning of the utterance: log-probabilities of all its paths that end in a blank, or in its last token."""

    ids: tuple[int, ...]
    blank: float
    token: float
    said: float  # by the language model, weighted, bonuses included

    @property
    def score(self) -> float:
        return _either(self.blank, self.token) + self.said


class Beam(NamedTuple):
    """Where a search stands after some frames."""

    prefixes: tuple[_Prefix, ...] = (_Prefix((), 0.0, NEVER, 0.0),)
    frames: int = 0


class CTCSearch:
    """Looks for the tokens that both what was heard and ``language`` make likely."""

    def __init__(self, language: NGram, config: CTCSearchConfig) -> None:
        self.language, self.config = language, config
        self._known: dict[tuple[int, ...], dict[int, float]] = {}

    def advance(self, beam: Beam, log_p: NDArray[np.float32]) -> Beam:
        """``beam`` after more CTC log-probabilities [T, 1 + V], the blank's first."""
        choices = min(self.config.choices, log_p.shape[1])
        likeliest = np.argpartition(-log_p, choices - 1, axis=1)[:, :choices]
        prefixes = beam.prefixes
        for frame, some in zip(log_p, likeliest.tolist(), strict=True):
            chosen = [choice for choice in some if choice and frame[choice] > self.config.least]
            heard = dict(zip((choice - 1 for choice in chosen), frame[chosen].tolist(), strict=True))
            prefixes = self._grown(prefixes, float(frame[0]), heard)
        return Beam(prefixes, beam.frames + len(log_p))

    def sense(self, beam: Beam) -> float:
        """Log-probability a frame of the best so far: how much it is like what users say; 0 before the first frame."""
        return max(each.score for each in beam.prefixes) / max(1, beam.frames)

    def best(self, beam: Beam) -> tuple[tuple[int, ...], float]:
        """The likeliest tokens if that was all, and the log-probability by ``language`` that it was."""
        ends = [self._likes(prefix.ids, [self.language.end])[0] for prefix in beam.prefixes]
        scores = [each.score + self.config.weight * end for each, end in zip(beam.prefixes, ends, strict=True)]
        place = max(range(len(scores)), key=scores.__getitem__)
        return beam.prefixes[place].ids, ends[place]

    def _grown(self, prefixes: tuple[_Prefix, ...], blank: float, heard: dict[int, float]) -> tuple[_Prefix, ...]:
        """The best after one more frame, of which the ``heard`` tokens and the blank are looked at."""
        grown: dict[tuple[int, ...], _Prefix] = {}
        tokens = list(heard)
        for prefix in prefixes:
            for ids, as_blank, as_token, said in self._after(prefix, blank, heard, tokens):
                old = grown.get(ids)
                if old is not None:
                    as_blank, as_token = _either(old.blank, as_blank), _either(old.token, as_token)
                grown[ids] = _Prefix(ids, as_blank, as_token, said)
        return tuple(sorted(grown.values(), key=lambda each: -each.score)[: self.config.beam])

    def _after(
        self, prefix: _Prefix, blank: float, heard: dict[int, float], tokens: list[int]
    ) -> Iterator[tuple[tuple[int, ...], float, float, float]]:
        ids, either = prefix.ids, _either(prefix.blank, prefix.token)
        last = ids[-1] if ids else None
        yield ids, either + blank, prefix.token + heard.get(last, NEVER) if last is not None else NEVER, prefix.said
        for token, liked in zip(tokens, self._likes(ids, tokens), strict=True):
            before = prefix.blank if token == last else either  # the same token twice needs a blank between
            yield (
                (*ids, token),
                NEVER,
                before + heard[token],
                prefix.said + self.config.weight * liked + self.config.bonus,
            )

    def _likes(self, ids: tuple[int, ...], tokens: list[int]) -> list[float]:
        """Log-probabilities of ``tokens`` after ``ids``."""
        context = (self.language.begin, *ids)[-self.language.reach :] if self.language.reach else ()
        if len(self._known) > REMEMBERED:
            self._known.clear()
        known = self._known.setdefault(context, {})
        if new := [token for token in tokens if token not in known]:
            known.update(zip(new, self.language.log_p(context, np.array(new, np.int64)).tolist(), strict=True))
        return [known[token] for token in tokens]


def _either(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    high, low = (a, b) if a > b else (b, a)
    return high if low <= NEVER / 2 else high + math.log1p(math.exp(low - high))
