"""Names of the positions of a context, and the vectors they stand for. Knows no slots and no conversation.

A key is a token id (0 or more) or, for a vector that no token stands for (speech, trained prompts), a negative number
that names a blob of vectors and a place in it. Two contexts with the same keys are the same context.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["PROMPTS", "Vectors", "blob_keys", "common"]

PROMPTS = 0  # the blob of the trained prompt embeddings
BLOB_BITS = 20  # places in a blob


def blob_keys(blob: int, first: int, stop: int) -> list[int]:
    """Keys of the vectors [first, stop) of a blob."""
    return [-((blob << BLOB_BITS) + place) - 1 for place in range(first, stop)]


def common(known: Sequence[int], wanted: Sequence[int]) -> int:
    """How many keys both begin with."""
    limit = min(len(known), len(wanted))
    return next((i for i in range(limit) if known[i] != wanted[i]), limit)


class Vectors:
    """Looks keys up.

    Args:
        embed: [n, D] of token ids.
        prompts: [P, D] trained vectors in front of speech; None: the family has none.
    """

    def __init__(self, embed: Callable[[Sequence[int]], Tensor], prompts: Tensor | None) -> None:
        self._embed, self._prompts = embed, prompts

    def of(self, keys: Sequence[int], blobs: Mapping[int, Tensor]) -> Tensor:
        """[L, D] the vectors of ``keys``; ``blobs`` has those of speech."""
        pieces, start = [], 0
        for stop in range(1, len(keys) + 1):
            if stop == len(keys) or (keys[stop] < 0) != (keys[start] < 0):
                run = keys[start:stop]
                pieces.append(self._of_blobs(run, blobs) if run[0] < 0 else self._embed(run))
                start = stop
        return torch.cat(pieces)

    def _of_blobs(self, keys: Sequence[int], blobs: Mapping[int, Tensor]) -> Tensor:
        vectors = []
        for key in keys:
            blob, place = divmod(-key - 1, 1 << BLOB_BITS)
            source = self._prompts if blob == PROMPTS else blobs[blob]
            assert source is not None
            vectors.append(source[place])
        return torch.stack(vectors)
