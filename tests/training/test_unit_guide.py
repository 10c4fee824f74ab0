import pytest
import torch
from torch.nn import functional as F

from icebreaker.training.unit_extraction import SpokenUnits
from icebreaker.training.unit_guide import guide, guided_loss, laid_by_words, laid_evenly
from icebreaker.training.word_times import WordTime


def spoken(units: list[int], durations: list[int]) -> SpokenUnits:
    return SpokenUnits(torch.tensor(units), torch.tensor(durations))


def test_sound_is_laid_over_the_letters() -> None:
    """Two tokens of one and three letters: a quarter of the speech belongs to the first."""
    sound = spoken([9, 1, 2, 3, 4, 9], [5, 2, 2, 2, 2, 5])
    found = guide(laid_evenly([1, 3], sound), 2, 16, sound)
    assert found.tolist() == [9, *[1] * 7, *[2] * 3, *[3] * 2, 4, 4, 9]


def test_what_lasts_longer_gets_more_frames() -> None:
    sound = spoken([0, 1, 2, 0], [3, 7, 3, 3])
    found = guide(laid_evenly([4], sound), 1, 12, sound)
    assert found.tolist() == [0, *[1] * 7, *[2] * 3, 0]


def test_a_state_without_a_token_says_the_end() -> None:
    sound = spoken([0, 1, 2, 0], [1, 4, 4, 1])
    found = guide(laid_evenly([2, 2], sound), 3, 12, sound)
    assert found.tolist() == [0, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0]


def test_tokens_lie_where_their_words_are_said() -> None:
    """ "no way!" of three tokens: 0.2 s, a pause of 0.1, 0.4 s; the mark after the word is said in no time."""
    edges = laid_by_words([(0, 2), (2, 6), (6, 7)], [WordTime(0, 2, 0.1, 0.3), WordTime(3, 6, 0.4, 0.8)])
    assert edges.tolist() == pytest.approx([5.0, 15.0, 40.0, 40.0])
    sound = spoken([0, 1, 2, 3, 0], [5, 10, 5, 20, 3])
    assert guide(edges, 3, 12, sound).tolist() == [0, 1, 1, 1, 2, 3, 3, 3, 0, 0, 0, 0]


@pytest.mark.parametrize("units", [[3], [3, 1]])
def test_hardly_any_units(units: list[int]) -> None:
    sound = spoken(units, [2] * len(units))
    found = guide(laid_evenly([2], sound), 1, 4, sound)
    assert len(found) == 4
    assert (int(found[0]), int(found[-1])) == (units[0], units[-1])


def test_the_loss_is_over_each_rows_own_frames() -> None:
    logits = torch.randn(2, 6, 5)
    targets = [torch.tensor([1, 2, 3]), torch.tensor([0, 4])]
    each = [F.cross_entropy(logits[i, : len(row)], row, reduction="sum") for i, row in enumerate(targets)]
    torch.testing.assert_close(guided_loss(logits, targets), sum(each) / 5)
