"""A batched key-value cache: one preallocated slot per session. Knows nothing of sessions, sampling or weights.

Rows drift apart: each has its own length. Writing happens in place past ``length``, never before it, so ``length`` is
all there is to select, save or take back: ``cache._replace(length=heard)`` forgets everything after ``heard``.
Use each cache value once; a value that was continued from shares its memory with what followed.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Cache

__all__ = ["CacheWriter", "KVCache", "causal_mask"]


class KVCache(NamedTuple):
    """Keys and values of all layers, [B, H_kv, capacity, D_head] each, and how much of each row is valid."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    length: Tensor  # [B] int64

    @property
    def capacity(self) -> int:
        """Positions that a slot can hold."""
        return self.keys[0].shape[2]

    def select_rows(self, active: Tensor, old: "KVCache") -> "KVCache":
        """What ``streaming.select`` does to a cache: idle rows get their old length back."""
        return self._replace(length=torch.where(active, self.length, old.length))

    def slots(self, first: int, stop: int) -> "KVCache":
        """Some neighbouring slots, as a cache of their own over the same memory: work for a few of many sessions."""
        return KVCache(
            tuple(key[first:stop] for key in self.keys),
            tuple(value[first:stop] for value in self.values),
            self.length[first:stop],
        )

    def with_slots(self, first: int, slots: "KVCache") -> "KVCache":
        """What ``slots`` were continued to, from ``first`` on: their lengths, for the memory is the same."""
        lengths = self.length.clone()
        lengths[first : first + len(slots.length)] = slots.length
        return self._replace(length=lengths)

    def row(self, index: int) -> "KVCache":
        """A copy of one slot, as a cache of batch 1 that is no longer than it need be: a saved or branched session."""
        length = int(self.length[index])
        rows = slice(index, index + 1)
        return KVCache(
            tuple(key[rows, :, :length].clone() for key in self.keys),
            tuple(value[rows, :, :length].clone() for value in self.values),
            self.length[rows].clone(),
        )

    def with_row(self, index: int, saved: "KVCache") -> "KVCache":
        """Put a slot saved by ``row`` at ``index``, over what was there.

        Raises:
            ValueError: ``saved`` is longer than a slot.
        """
        length = int(saved.length[0])
        if length > self.capacity:
            raise ValueError(f"a session of {length} positions does not fit a slot of {self.capacity}")
        for ours, theirs in zip((*self.keys, *self.values), (*saved.keys, *saved.values), strict=True):
            ours[index, :, :length] = theirs[0, :, :length]
        lengths = self.length.clone()
        lengths[index] = length
        return self._replace(length=lengths)


class CacheWriter(Cache):  # type: ignore[misc]
    """One forward pass's view of a ``KVCache`` in the shape that transformers' decoders expect.

    ``update`` stores the new keys and values where they belong and hands back the slice up to the longest row: no copy
    of what was there, whatever the capacity. Entries past a row's own length are stale and must be masked.
    """

    def __init__(self, cache: KVCache, lengths: Tensor, width: int) -> None:
        """Plan the writes.

        Args:
            cache: to be written into.
            lengths: [B] how many of the new positions of each row are valid; the others are not stored.
            width: new positions handed in, valid or not.

        Raises:
            ValueError: the batch differs, a length is out of range, or a slot would overflow. Nothing is written then.
        """
        super().__init__(layers=[])
        if lengths.shape != cache.length.shape:
            raise ValueError(f"expected one length for each of {len(cache.length)} slots, got {tuple(lengths.shape)}")
        starts, counts = cache.length.tolist(), lengths.tolist()  # the one wait for the device in a step
        if counts and (min(counts) < 0 or max(counts) > width):
            raise ValueError(f"lengths must lie in 0 .. {width}, got {counts}")
        ends = [start + count for start, count in zip(starts, counts, strict=True)]
        if (longest := max(ends, default=0)) > cache.capacity:
            full = ends.index(longest)
            raise ValueError(
                f"slot {full} holds {starts[full]} positions and {counts[full]} more exceed its capacity of "
                f"{cache.capacity}; truncate the context or allocate a larger cache"
            )
        self.cache = cache
        self.idle = not any(counts)
        self.read_length = longest
        self._slice = slice(starts[0], ends[0]) if len(set(starts)) == 1 and set(counts) == {width} else None
        if self._slice is None:
            valid = torch.arange(width, device=lengths.device) < lengths[:, None]  # [B, L]
            self._rows, self._from = valid.nonzero(as_tuple=True)
            self._to = cache.length[self._rows] + self._from

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values [B, H_kv, L, D_head]; returns all of them, [B, H_kv, read, D_head]."""
        keys, values = self.cache.keys[layer_idx], self.cache.values[layer_idx]
        if self._slice is not None:
            keys[:, :, self._slice] = key_states
            values[:, :, self._slice] = value_states
        else:
            keys[self._rows, :, self._to] = key_states[self._rows, :, self._from]
            values[self._rows, :, self._to] = value_states[self._rows, :, self._from]
        return keys[:, :, : self.read_length], values[:, :, : self.read_length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """The longest row, new positions included; our callers always give explicit positions."""
        return self.read_length


def causal_mask(positions: Tensor, read_length: int, *, window: int | None = None, chunk: int | None = None) -> Tensor:
    """Which cached positions each query sees.

    Args:
        positions: [B, L] position of each query.
        read_length: number of cached positions to judge, K.
        window: sliding attention: only the newest ``window`` positions, the query's own among them.
        chunk: chunked attention: only positions in the query's own block of ``chunk``.

    Returns:
        [B, 1, L, K] bool, true where the query may look.
    """
    query, key = positions[:, None, :, None], torch.arange(read_length, device=positions.device)
    seen = key <= query
    if window is not None:
        seen &= key > query - window
    if chunk is not None:
        seen &= key // chunk == query // chunk
    return seen
