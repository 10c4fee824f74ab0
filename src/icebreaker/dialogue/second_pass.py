"""What was said, once an utterance is over: its tokens by what the ears heard and by what users say (ours).

While somebody talks, the LLM reads mixtures of tokens as they come, and the state head judges what it makes of them.
When the turn is taken the same vectors are searched once more, as a whole and with a language model of users' words,
and the LLM reads the tokens instead: fewer of them are wrong, and no pauses stay in the conversation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from icebreaker.dialogue.parts import OmniParts, Parts
from icebreaker.models.ctc_search import CTCSearchConfig, ctc_search
from icebreaker.models.ngram import NGram
from icebreaker.models.token_lookup import TokenLookup

__all__ = ["SecondPass", "second_pass_of"]


class SecondPass:
    """Searches what an adapter with a lookup has made of an utterance."""

    def __init__(self, lookup: TokenLookup, language: NGram, config: CTCSearchConfig) -> None:
        self.lookup, self.language, self.config = lookup, language, config

    @torch.inference_mode()
    def ids(self, vectors: Sequence[Tensor]) -> list[int]:
        """Token ids of an utterance, given as the adapter's vectors [n, D] before the lookup, piece by piece."""
        if not vectors:
            return []
        log_p = self.lookup.logits(torch.cat(list(vectors))).float().log_softmax(dim=-1).cpu().numpy()
        return ctc_search(log_p, self.language.begin, self.language.end, self.language.log_p, self.config)


def second_pass_of(parts: Parts | OmniParts) -> SecondPass | None:
    """The second pass of a model that brings a language model; None: the LLM keeps what it read as it was heard."""
    lookup = parts.adapter.lookup if isinstance(parts, Parts) else parts.adaptor.lookup
    if parts.language is None or lookup is None:
        return None
    return SecondPass(lookup, parts.language, parts.settings.second_pass)
