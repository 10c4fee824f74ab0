"""The LLM's hidden states behind a reply's tokens, as the speech decoder gets them. Knows nothing of units.

``predicting``: the states that the tokens and the end were drawn from, one more than there are tokens (the paper, and
the official inference). ``reading``: the states at the tokens' own places. Both are what ``dialogue`` hands on.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from icebreaker.models.llm import LLM
from icebreaker.training.llm_layout import pack

__all__ = ["StatesRule", "reply_states"]

StatesRule = Literal["predicting", "reading"]


@torch.no_grad()
def reply_states(
    llm: LLM, contexts: Sequence[Sequence[Tensor]], replies: Sequence[Sequence[int]], rule: StatesRule
) -> list[Tensor]:
    """States of each row's reply, teacher-forced after its context.

    Args:
        llm: frozen.
        contexts: pieces [n, D] up to where the reply begins.
        replies: token ids without the end, at least one.
        rule: which states.

    Returns:
        [M, D] for each row: M is the number of ids, with ``predicting`` one more.
    """
    rows, spans, device = [], [], llm.embedding.weight.device
    for pieces, ids in zip(contexts, replies, strict=True):
        length = sum(len(piece) for piece in pieces)
        rows.append([*pieces, llm.embed(torch.tensor([list(ids)], dtype=torch.long, device=device))[0]])
        spans.append((length - (rule == "predicting"), length + len(ids)))
    hidden_states = llm.train_forward(*pack(rows))
    return [row[first:last] for row, (first, last) in zip(hidden_states, spans, strict=True)]
