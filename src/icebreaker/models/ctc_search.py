"""Prefix beam search over CTC with a language model (Hannun et al., arXiv:1408.2873), as sound comes.

Knows no sound and no modules; where a search stands is a value, so anybody can go on with it.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from operator import attrgetter
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
        within: how far below the best a prefix is still kept.
    """

    weight: float = 0.8
    bonus: float = 1.5
    beam: int = 48
    choices: int = 32
    least: float = -10.0
    within: float = 12.0

    def __post_init__(self) -> None:
        if min(self.beam, self.choices) < 1:
            raise ValueError(f"beam and choices: expected at least 1, got {self.beam} and {self.choices}")


class _Prefix(NamedTuple):
    """A beginning of the utterance: log-probabilities of all its paths that end in a blank, or in its last token."""

    ids: tuple[int, ...]
    blank: float
    token: float
    either: float
    said: float  # by the language model, weighted, bonuses included

    @property
    def score(self) -> float:
        return self.either + self.said

    def before(self, token: int) -> float:
        """Of the paths that ``token`` may go on: the same token twice needs a blank between."""
        return self.blank if self.ids and self.ids[-1] == token else self.either


class Beam(NamedTuple):
    """Where a search stands after some frames."""

    prefixes: tuple[_Prefix, ...] = (_Prefix((), 0.0, NEVER, 0.0, 0.0),)
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
        end = self.language.end
        ends = [likes[end] for likes in self._likes([(prefix, [end]) for prefix in beam.prefixes])]
        scores = [each.score + self.config.weight * end for each, end in zip(beam.prefixes, ends, strict=True)]
        place = max(range(len(scores)), key=scores.__getitem__)
        return beam.prefixes[place].ids, ends[place]

    def _grown(self, prefixes: tuple[_Prefix, ...], blank: float, heard: dict[int, float]) -> tuple[_Prefix, ...]:
        """The best after one more frame, of which the ``heard`` tokens and the blank are looked at.

        Those that stay as they are say how good a new one has to be. The language model only takes from what was
        heard, so most new ones are known to be worse without asking it: nothing is lost by that.
        """
        known = {prefix.ids: prefix for prefix in prefixes}
        grown = {prefix.ids: _stayed(prefix, known.get(prefix.ids[:-1]), blank, heard) for prefix in prefixes}
        scores = [each.score for each in grown.values()]
        least = max(scores) - self.config.within
        if len(prefixes) >= self.config.beam:
            least = max(least, min(scores))
        ranked = sorted(heard.items(), key=lambda each: -each[1])
        asked: list[tuple[_Prefix, list[int]]] = []
        for prefix in prefixes:
            ids, short = prefix.ids, least - prefix.score - self.config.bonus
            tokens = [token for token, chance in ranked if chance >= short and (*ids, token) not in known]
            if tokens:
                asked.append((prefix, tokens))
        for (prefix, tokens), likes in zip(asked, self._likes(asked), strict=True):
            for token in tokens:
                ids, chance = (*prefix.ids, token), prefix.before(token) + heard[token]
                said = prefix.said + self.config.weight * likes[token] + self.config.bonus
                grown[ids] = _Prefix(ids, NEVER, chance, chance, said)
        best = nlargest(self.config.beam, grown.values(), key=attrgetter("score"))
        least = best[0].score - self.config.within
        return tuple(each for each in best if each.score >= least)

    def _likes(self, asked: Sequence[tuple[_Prefix, Sequence[int]]]) -> list[dict[int, float]]:
        """For each prefix log-probabilities of the tokens after it, and of others."""
        if len(self._known) > REMEMBERED:
            self._known.clear()
        reach = self.language.reach
        contexts = [(self.language.begin, *prefix.ids)[-reach:] if reach else () for prefix, _ in asked]
        known = [self._known.setdefault(context, {}) for context in contexts]
        new: dict[int, list[tuple[int, int]]] = defaultdict(list)  # places in ``asked`` and tokens, by context length
        for place, ((_, tokens), some) in enumerate(zip(asked, known, strict=True)):
            new[len(contexts[place])] += [(place, token) for token in tokens if token not in some]
        for pairs in new.values():
            if pairs:
                before = np.array([contexts[place] for place, _ in pairs], np.int64)
                liked = self.language.log_p(before, np.array([token for _, token in pairs], np.int64)).tolist()
                for (place, token), log_p in zip(pairs, liked, strict=True):
                    known[place][token] = log_p
        return known


def _stayed(prefix: _Prefix, shorter: _Prefix | None, blank: float, heard: dict[int, float]) -> _Prefix:
    """``prefix`` after a frame that adds nothing to it; ``shorter``, where it is there, may have become it."""
    as_blank, as_token = prefix.either + blank, NEVER
    if prefix.ids and (chance := heard.get(prefix.ids[-1], NEVER)) > NEVER:
        as_token = prefix.token + chance
        if shorter is not None:
            as_token = _either(as_token, shorter.before(prefix.ids[-1]) + chance)
    return _Prefix(prefix.ids, as_blank, as_token, _either(as_blank, as_token), prefix.said)


def _either(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    high, low = (a, b) if a > b else (b, a)
    return high if low <= NEVER / 2 else high + math.log1p(math.exp(low - high))
