"""One token for many conversations as a recorded step of a frozen LLM. Knows nothing of turns or sampling.

What ``LLM.forward`` does for one new position a row, without a look at values on the host: every row of the batch takes
part, idle ones get back what they would overwrite, and the cache is read up to a length that few recordings share.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from icebreaker.models.kv_cache import KVCache
from icebreaker.models.llm import LLM
from icebreaker.nn.recorded import Recorder, bucket

__all__ = ["LLMTicks"]

LEAST_READ = 512  # positions: below that, reading costs nothing beside the weights


class LLMTicks:
    """Replays ticks over one cache, the only one whose memory it knows; for any other it declines."""

    def __init__(self, llm: LLM, cache: KVCache, recorder: Recorder | None = None) -> None:
        """``cache``: all slots; it has to stay where it is."""
        self.llm, self.cache = llm, cache
        self.recorder = Recorder() if recorder is None else recorder

    def __call__(self, embeddings: Tensor, cache: KVCache, lengths: Tensor, read_length: int) -> Tensor | None:
        """Append a position to each row of some neighbouring slots.

        Args:
            embeddings: [b, L, D].
            cache: all slots, or ``slots`` of them; written in place.
            lengths: [b] 1, or 0 for an idle row.
            read_length: positions of the longest row, the new one included.

        Returns:
            [b, 1, D] hidden states, meaningless in idle rows; None: this is another cache, or not one position.
        """
        first = self._first_row(cache)
        if first is None or embeddings.shape[1] != 1:
            return None
        stop, slots = first + len(lengths), len(self.cache.length)
        rows, read = bucket(stop, 1, slots), bucket(read_length, LEAST_READ, self.cache.capacity)
        vectors = embeddings.new_zeros(rows, *embeddings.shape[1:], dtype=self.llm.embedding.weight.dtype)
        starts, active = cache.length.new_zeros(rows), torch.zeros(rows, dtype=torch.bool, device=lengths.device)
        vectors[first:stop], starts[first:stop], active[first:stop] = embeddings, cache.length, lengths > 0

        def step(vectors: Tensor, starts: Tensor, active: Tensor) -> Tensor:
            return self.llm.tick(vectors, starts, _TickWriter(self.cache, starts, active, read), read)

        return self.recorder((rows, read), step, vectors, starts, active)[first:stop]

    def _first_row(self, cache: KVCache) -> int | None:
        """Where ``cache`` begins in ours."""
        whole, part = self.cache.keys[0], cache.keys[0]
        if whole.untyped_storage().data_ptr() != part.untyped_storage().data_ptr() or whole.stride() != part.stride():
            return None
        return (part.storage_offset() - whole.storage_offset()) // whole.stride(0)


class _TickWriter(Cache):  # type: ignore[misc]
    """Stores one position a row, by tensors alone."""

    def __init__(self, cache: KVCache, starts: Tensor, active: Tensor, read: int) -> None:
        super().__init__(layers=[])
        self.cache, self.read = cache, read
        self.rows = torch.arange(len(starts), device=starts.device)
        self.to = starts.clamp(max=cache.capacity - 1)
        self.active = active[:, None, None]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values [B, H_kv, 1, D_head]; returns all of them, [B, H_kv, read, D_head]."""
        shown = []
        for whole, new in zip((self.cache.keys, self.cache.values), (key_states, value_states), strict=True):
            memory = whole[layer_idx][: len(self.rows)]
            memory[self.rows, :, self.to] = torch.where(self.active, new[:, :, 0], memory[self.rows, :, self.to])
            shown.append(memory[:, :, : self.read])
        return shown[0], shown[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions are given explicitly."""
        return self.read
