"""Which recordings make up which batch. Knows nothing of audio or models.

Batch ``k`` is a function of the items, the budget, the seed and ``k`` alone, so a resumed run sees what an
uninterrupted one would have seen. An epoch shuffles the items, sorts pools of them by length so that little is
padding, cuts the pools into batches and shuffles these.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from icebreaker.data.manifest import Item

__all__ = ["duration_batches"]

POOL = 512  # items sorted by length together


def duration_batches(
    items: Sequence[Item], seconds_per_batch: float, seed: int, *, start: int = 0
) -> Iterator[list[Item]]:
    """Endless batches, from batch ``start`` on.

    Args:
        items: what to draw from; every item comes once an epoch.
        seconds_per_batch: the most that the number of items times the longest of them may come to.
        seed: of the order.
        start: index of the first batch to yield.

    Raises:
        ValueError: there are no items, or one alone is longer than a batch.
    """
    if not items:
        raise ValueError("expected at least one item, got none; is the manifest's split right?")
    longest = max(items, key=lambda item: item.seconds)
    if longest.seconds > seconds_per_batch:
        raise ValueError(f"{longest.id} lasts {longest.seconds} s, above seconds_per_batch {seconds_per_batch}")
    return _generate(items, seconds_per_batch, seed, start)


def _generate(items: Sequence[Item], seconds_per_batch: float, seed: int, start: int) -> Iterator[list[Item]]:
    for epoch in count():
        batches = _epoch(items, seconds_per_batch, np.random.default_rng((seed, epoch)))
        yield from batches[start:]
        start = max(0, start - len(batches))


def _epoch(items: Sequence[Item], seconds_per_batch: float, rng: np.random.Generator) -> list[list[Item]]:
    order = rng.permutation(len(items))
    batches: list[list[Item]] = []
    for first in range(0, len(order), POOL):
        pool = sorted((items[index] for index in order[first : first + POOL]), key=lambda item: item.seconds)
        batches += _cut(pool, seconds_per_batch)
    return [batches[index] for index in rng.permutation(len(batches))]


def _cut(pool: Sequence[Item], seconds_per_batch: float) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in pool:  # ascending, so the newest is the longest
        if batch and (len(batch) + 1) * item.seconds > seconds_per_batch:
            yield batch
            batch = []
        batch.append(item)
    yield batch
