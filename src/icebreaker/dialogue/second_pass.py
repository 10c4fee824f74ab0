"""What is being said, by what the ears hear and by what users say: at the end of a turn, and to find that end (ours).

While somebody talks, the LLM reads mixtures of tokens as they come, and the state head judges what it makes of them.
Beside it the same vectors are searched with a language model of users' words. How likely that makes the end of the
sentence counts in the head's verdict; and when the turn is taken, the LLM reads the tokens that were found instead of
the mixtures: fewer of them are wrong, and no pauses stay in the conversation.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icebreaker.dialogue.parts import DialogueSettings, OmniParts, Parts
from icebreaker.dialogue.state import Utterance
from icebreaker.models.ctc_search import Beam, CTCSearch
from icebreaker.models.ngram import NGram
from icebreaker.models.token_lookup import TokenLookup

__all__ = ["SecondPass", "second_pass_of"]

KEPT = 16  # chunks of an utterance whose beams are kept: where it ends is known some chunks later
LEAST = -10.0  # log-probability of an end below which one is as unlikely as another
Probabilities = tuple[float, float, float]


class SecondPass:
    """Searches what an adapter with a lookup makes of an utterance."""

    def __init__(self, lookup: TokenLookup, language: NGram, settings: DialogueSettings) -> None:
        self.lookup, self.language, self.settings = lookup, language, settings
        self.search = CTCSearch(language, settings.second_pass)

    def ids(self, vectors: Sequence[Tensor]) -> list[int]:
        """Token ids of an utterance, given as the adapter's vectors [n, D] before the lookup, piece by piece."""
        return list(self.search.best(self.search.advance(Beam(), self._log_p(vectors)))[0]) if vectors else []

    def follow(self, utterance: Utterance) -> Utterance:
        """``utterance`` with all that was heard of it searched."""
        beams, heard = utterance.beams, 0
        for vectors in utterance.vectors:
            heard += len(vectors)
            if heard > beams[-1].frames:
                beams = (*beams, self.search.advance(beams[-1], self._log_p([vectors])))[-KEPT:]
        return utterance if beams is utterance.beams else replace(utterance, beams=beams)

    def said(self, utterance: Utterance, count: int | None = None) -> list[int]:
        """Token ids of ``utterance``, or of its first ``count`` vectors; most was searched while it was heard."""
        beams = self.follow(utterance).beams
        there = [beam for beam in beams if count in (None, beam.frames)]
        if there:
            return list(self.search.best(there[-1])[0])
        return self.ids([torch.cat(utterance.vectors)[:count]])

    def judged(self, probabilities: Probabilities, utterance: Utterance, *, over: bool) -> Probabilities:
        """The state head's verdict (continue, take, ignore), and whether ``utterance``, searched, may end there.

        The odds of "take" are multiplied by the probability of an end, to the power of ``completeness``, over that at
        which the verdict stays as it is; ``over`` the assistant's own speech, where an uh-huh is as whole as a
        question, they do not rise.
        """
        keep, take, ignore = probabilities
        if not self.settings.completeness or not 0 < take < 1:
            return probabilities
        ids, end = self.search.best(utterance.beams[-1])
        if not ids:
            return probabilities
        more = self.settings.completeness * (max(end, LEAST) - self.settings.completeness_even)
        log_odds = math.log(take / (1 - take)) + (min(more, 0.0) if over else more)
        now = 1 / (1 + math.exp(-log_odds))
        rest = (1 - now) / (1 - take)
        return keep * rest, now, ignore * rest

    @torch.inference_mode()
    def _log_p(self, vectors: Sequence[Tensor]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.lookup.logits(torch.cat(list(vectors))).float().log_softmax(-1).cpu().numpy()
        return found


def second_pass_of(parts: Parts | OmniParts) -> SecondPass | None:
    """The second pass of a model that brings a language model; None: the LLM keeps what it read as it was heard."""
    lookup = parts.adapter.lookup if isinstance(parts, Parts) else parts.adaptor.lookup
    if parts.language is None or lookup is None:
        return None
    return SecondPass(lookup, parts.language, parts.settings)
