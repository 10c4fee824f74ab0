"""Cache and masks of the speech decoder. Knows nothing of its weights.

Each row of the cache is packed: prefix, context, speech, without gaps, so a row never depends on the padding of the
batch it was prefilled in. Boolean masks are true where a query may look.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["CacheWriter", "CodecLMState", "pack", "training_mask", "valid"]


class CodecLMState(NamedTuple):
    """Cache of the autoregressive layers, filled per row from 0; entries at and past ``length`` are scratch."""

    keys: Tensor  # [B, N, H, capacity + 1, head_dim], rotated; the last entry is never part of a row
    values: Tensor  # like keys
    length: Tensor  # [B] entries in use: prefix, context, speech fed so far
    position: Tensor  # [B] rotary position of the next speech token

    @property
    def capacity(self) -> int:
        """Entries that a row can use."""
        return self.keys.shape[3] - 1

    def select_rows(self, active: Tensor, old: "CodecLMState") -> "CodecLMState":
        """Lengths of ``old`` where ``active`` [B] is false; entries are written in place past them."""
        length = torch.where(active, self.length, old.length)
        return self._replace(length=length, position=torch.where(active, self.position, old.position))

    def taken_back(self, codes: Tensor) -> "CodecLMState":
        """Forget the newest ``codes`` [B] speech tokens of each row."""
        return self._replace(length=self.length - codes, position=self.position - codes)


class CacheWriter:
    """Writes one new entry per row at its length, and shows the entries in use, the new one included.

    While all rows are equally long, that is one slice and no mask.
    """

    def __init__(self, length: Tensor) -> None:
        self.first = int(length[0])
        self.even = bool((length == self.first).all())
        self.rows = torch.arange(len(length), device=length.device)
        self.length = length
        self.used = self.first + 1 if self.even else int(length.max()) + 1
        self.mask = None if self.even else valid(self.used, length + 1)

    def __call__(self, cache: Tensor, entry: Tensor) -> Tensor:
        """``cache`` [B, H, capacity + 1, d] gets ``entry`` [B, H, 1, d] in place; returns the part in use."""
        if self.even:
            cache[:, :, self.first] = entry[:, :, 0]
        else:
            cache[self.rows, :, self.length] = entry[:, :, 0]
        return cache[:, :, : self.used]


def pack(cache: Tensor, entries: Tensor, start: int, rows: Tensor, first: Tensor, second: Tensor) -> None:
    """Write the valid ``entries`` of two padded parts into ``rows`` of ``cache`` without gaps, in place.

    Args:
        cache: [B, H, capacity + 1, d].
        entries: [b, H, start + L, d]: a part padded to ``start``, then one padded to L.
        start: where the second part starts.
        rows: [b] where they go.
        first: [b] valid entries of the first part.
        second: [b] valid entries of the second part.
    """
    for index, (row, one, two) in enumerate(zip(rows.tolist(), first.tolist(), second.tolist(), strict=True)):
        cache[row, :, :one] = entries[index, :, :one]
        cache[row, :, one : one + two] = entries[index, :, start : start + two]


def valid(width: int, lengths: Tensor) -> Tensor:
    """[B, 1, 1, width], true for the first ``lengths`` [B] keys; at least one, so that no softmax is empty."""
    return torch.arange(width, device=lengths.device) < lengths.clamp(min=1)[:, None, None, None]


def training_mask(context: int, lengths: Tensor, speech: int) -> Tensor:
    """[B, 1, C + S, C + S]: the valid context for everyone, and for speech what was said before."""
    total = context + speech
    causal = torch.ones(total, total, dtype=torch.bool, device=lengths.device).tril()
    causal[:, :context] = False
    return causal | torch.nn.functional.pad(valid(context, lengths), (0, speech))
