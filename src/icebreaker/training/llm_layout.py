"""Rows of embeddings for a frozen LLM: packed, scored and continued. Knows nothing of speech.

A row is a list of [n, D] pieces; what the LLM is to say after it are ids. Gradients flow into the pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from icebreaker.models.llm import LLM

__all__ = ["Scored", "continue_greedily", "ids_of", "pack", "score"]


@dataclass(frozen=True)
class Scored:
    """What teacher forcing gives."""

    losses: Tensor  # [N] cross entropy of every target id, row after row
    rows: Tensor  # [N] the row each belongs to
    hidden_states: Tensor  # [B, L, D]


def ids_of(llm: LLM, text: str) -> list[int]:
    """Token ids of plain ``text``, without any special token."""
    return list(llm.tokenizer.encode(text, add_special_tokens=False))


def pack(rows: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows of pieces [n, D] as one right-padded batch: embeddings [B, L, D] and mask [B, L]."""
    joined = [torch.cat(list(pieces)) for pieces in rows]
    embeddings = torch.nn.utils.rnn.pad_sequence(joined, batch_first=True)
    lengths = torch.tensor([len(row) for row in joined], device=embeddings.device)
    return embeddings, torch.arange(embeddings.shape[1], device=embeddings.device) < lengths[:, None]


def score(llm: LLM, contexts: Sequence[Sequence[Tensor]], targets: Sequence[Sequence[int]], end_id: int) -> Scored:
    """Cross entropy of each row's ``targets`` and the end token after its context; an empty target scores nothing."""
    rows, wanted, places = [], [], []
    for index, (pieces, ids) in enumerate(zip(contexts, targets, strict=True)):
        length = sum(len(piece) for piece in pieces)
        device = pieces[0].device
        said = llm.embed(torch.tensor([list(ids)], dtype=torch.long, device=device))[0] if ids else pieces[0][:0]
        rows.append([*pieces, said])
        if ids:
            wanted += [*ids, end_id]
            places += [(index, length - 1 + i) for i in range(len(ids) + 1)]
    embeddings, mask = pack(rows)
    hidden_states = llm.train_forward(embeddings, mask)
    at = torch.tensor(places, dtype=torch.long, device=embeddings.device).reshape(-1, 2)
    logits = llm.logits(hidden_states[at[:, 0], at[:, 1]])
    wanted_ids = torch.tensor(wanted, dtype=torch.long, device=embeddings.device)
    return Scored(F.cross_entropy(logits.float(), wanted_ids, reduction="none"), at[:, 0], hidden_states)


@torch.no_grad()
def continue_greedily(llm: LLM, contexts: Sequence[Sequence[Tensor]], end_id: int, limit: int) -> list[list[int]]:
    """The most likely continuation of every row, without the end token, at most ``limit`` ids."""
    embeddings, mask = pack(contexts)
    lengths = mask.sum(dim=1)
    cache = llm.new_cache(len(contexts), embeddings.shape[1] + limit)
    hidden_states, cache = llm(embeddings, cache, lengths)
    newest = hidden_states[torch.arange(len(contexts), device=lengths.device), lengths - 1]
    said: list[list[int]] = [[] for _ in contexts]
    active = torch.ones_like(lengths)
    for _ in range(limit):
        ids = llm.logits(newest).argmax(dim=-1)  # [B]
        active = active * (ids != end_id)
        if not active.any():
            break
        for row in active.nonzero().flatten().tolist():
            said[row].append(int(ids[row]))
        hidden_states, cache = llm(llm.embed(ids[:, None]), cache, active)
        newest = hidden_states[:, 0]
    return said
