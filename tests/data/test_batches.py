from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from icebreaker.data.batches import duration_batches
from icebreaker.data.manifest import Item


@pytest.fixture
def items() -> list[Item]:
    seconds = np.random.default_rng(0).uniform(0.5, 6.0, size=1300)
    return [Item(id=f"{i}", audio=Path(f"{i}.flac"), seconds=float(s), text="") for i, s in enumerate(seconds)]


def ids(batch: list[Item]) -> list[str]:
    return [item.id for item in batch]


@pytest.mark.parametrize("start", [0, 1, 77, 500])
def test_resumed_batches_equal_uninterrupted_ones(items: list[Item], start: int) -> None:
    whole = [ids(batch) for batch in islice(duration_batches(items, 30.0, seed=3), 600)]
    resumed = [ids(batch) for batch in islice(duration_batches(items, 30.0, seed=3, start=start), 600 - start)]
    assert resumed == whole[start:]


def test_an_epoch_has_every_item_once_and_the_next_another_order(items: list[Item]) -> None:
    stream = duration_batches(items, 30.0, seed=0)
    epochs = []
    for _ in range(2):
        seen: list[str] = []
        while len(seen) < len(items):
            seen += ids(next(stream))
        assert sorted(seen) == sorted(item.id for item in items)
        epochs.append(seen)
    assert epochs[0] != epochs[1]


def test_batches_stay_within_the_budget_and_waste_little(items: list[Item]) -> None:
    batches = list(islice(duration_batches(items, 30.0, seed=0), 100))
    padded = [len(batch) * max(item.seconds for item in batch) for batch in batches]
    spoken = [sum(item.seconds for item in batch) for batch in batches]
    assert max(padded) <= 30.0
    assert sum(spoken) / sum(padded) > 0.95
    assert sum(padded) / len(padded) > 24.0


def test_another_seed_gives_other_batches(items: list[Item]) -> None:
    first, second = (next(duration_batches(items, 30.0, seed=seed)) for seed in (0, 1))
    assert ids(first) != ids(second)


def test_nothing_to_batch_is_refused(items: list[Item]) -> None:
    with pytest.raises(ValueError, match="at least one item"):
        duration_batches([], 30.0, seed=0)
    with pytest.raises(ValueError, match=r"above seconds_per_batch 5.0"):
        duration_batches(items, 5.0, seed=0)
