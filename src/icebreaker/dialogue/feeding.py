"""Rows that drift apart, fed to one LLM together. Knows nothing of what they are fed or why."""

from collections.abc import Mapping

import torch
from torch import Tensor

from icebreaker.models.kv_cache import KVCache
from icebreaker.models.llm import LLM

__all__ = ["feed"]

SHARED_POSITIONS = 16  # a row with more to feed is fed alone


def feed(llm: LLM, inputs: Mapping[int, Tensor], cache: KVCache) -> tuple[dict[int, Tensor], KVCache]:
    """Feed each row its [L, D] inputs; the last hidden state [D] of each, and the cache after them.

    Rows with a few positions share a call, from the first of them to the last; a long prefill has one of its own,
    lest everybody be padded to its length.
    """
    short = [i for i, fed in inputs.items() if len(fed) <= SHARED_POSITIONS]
    last: dict[int, Tensor] = {}
    for group in [*([i] for i in inputs if i not in short), *([short] if short else [])]:
        first, stop = min(group), max(group) + 1
        longest = max(len(inputs[i]) for i in group)
        embeddings = inputs[first].new_zeros(stop - first, longest, inputs[first].shape[1])
        lengths = torch.zeros_like(cache.length[first:stop])
        for i in group:
            embeddings[i - first, : len(inputs[i])] = inputs[i]
            lengths[i - first] = len(inputs[i])
        hidden, slots = llm(embeddings, cache.slots(first, stop), lengths)
        cache = cache.with_slots(first, slots)
        last |= {i: hidden[i - first, len(inputs[i]) - 1] for i in group}
    return last, cache
