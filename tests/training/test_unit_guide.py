import pytest
import torch
from torch.nn import functional as F

from icebreaker.training.unit_extraction import SpokenUnits
from icebreaker.training.unit_guide import guide, guided_loss


def spoken(units: list[int], durations: list[int]) -> SpokenUnits:
    return SpokenUnits(torch.tensor(units), torch.tensor(durations))


def test_sound_is_laid_over_the_letters() -> None:
    """Two tokens of one and three letters: a quarter of the speech belongs to the first."""
    found = guide([1, 3], 2, 16, spoken([9, 1, 2, 3, 4, 9], [5, 2, 2, 2, 2, 5]))
    assert found.tolist() == [9, *[1] * 7, *[2] * 3, *[3] * 2, 4, 4, 9]


def test_what_lasts_longer_gets_more_frames() -> None:
    found = guide([4], 1, 12, spoken([0, 1, 2, 0], [3, 7, 3, 3]))
    assert found.tolist() == [0, *[1] * 7, *[2] * 3, 0]


def test_a_state_without_a_token_says_the_end() -> None:
    found = guide([2, 2], 3, 12, spoken([0, 1, 2, 0], [1, 4, 4, 1]))
    assert found.tolist() == [0, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0]


@pytest.mark.parametrize("units", [[3], [3, 1]])
def test_hardly_any_units(units: list[int]) -> None:
    found = guide([2], 1, 4, spoken(units, [2] * len(units)))
    assert len(found) == 4
    assert (int(found[0]), int(found[-1])) == (units[0], units[-1])


def test_the_loss_is_over_each_rows_own_frames() -> None:
    logits = torch.randn(2, 6, 5)
    targets = [torch.tensor([1, 2, 3]), torch.tensor([0, 4])]
    each = [F.cross_entropy(logits[i, : len(row)], row, reduction="sum") for i, row in enumerate(targets)]
    torch.testing.assert_close(guided_loss(logits, targets), sum(each) / 5)
