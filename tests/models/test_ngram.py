"""What an n-gram model counts, gives up and stores."""

import math

import numpy as np
import pytest
import torch

from icebreaker.models.ngram import NGram, NGramConfig

SENTENCES = [((0, 1, 2), 2), ((0, 1, 3), 1), ((2, 2), 1), ((4,), 3)]
EVERYTHING = np.array([0, 1, 2, 3, 4, 5, 7])  # five tokens, one that was never said, and the end


@pytest.fixture(scope="module")
def model() -> NGram:
    return NGram.counted(SENTENCES, vocabulary=6, order=3)


@pytest.mark.parametrize("context", [(), (6,), (6, 0), (0, 1), (6, 0, 1), (1, 3), (3, 3), (5,), (5, 5), (2, 2)])
def test_chances_after_any_context_add_up(model: NGram, context: tuple[int, ...]) -> None:
    assert np.exp(model.log_p(context, EVERYTHING)).sum() == pytest.approx(1, abs=1e-5)


def test_chances_are_those_of_witten_and_bell(model: NGram) -> None:
    """By hand: 21 tokens in all (7 ends), of 6 kinds; after 1 two 2s and a 3; after 0, 1 the same."""
    one = (4 + 6 / 7) / (21 + 6)
    two = (2 + 2 * one) / (3 + 2)
    three = (2 + 2 * two) / (3 + 2)
    for context, expected in (((), one), ((1,), two), ((3, 1), two), ((0, 1), three), ((4, 0, 1), three)):
        assert model.log_p(context, np.array([2]))[0] == pytest.approx(math.log(expected), abs=1e-5)
    never = 6 / 7 / (21 + 6)
    assert model.log_p((), np.array([5]))[0] == pytest.approx(math.log(never), abs=1e-5)
    assert model.log_p((0, 1), np.array([5]))[0] == pytest.approx(math.log(2 / 5 * 2 / 5 * never), abs=1e-5)


def test_what_is_stored_is_all_of_it(model: NGram) -> None:
    again = NGram(model.config)
    again.load_state_dict(model.state_dict())
    for context in ((), (6, 0), (0, 1)):
        np.testing.assert_array_equal(again.log_p(context, EVERYTHING), model.log_p(context, EVERYTHING))
    assert all(torch.equal(getattr(model, f"keys{n}").sort().values, getattr(model, f"keys{n}")) for n in (1, 2, 3))


def test_what_cannot_be_counted_or_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="expected sentences to count"):
        NGram.counted([], vocabulary=6, order=3)
    with pytest.raises(ValueError, match="lower the order"):
        NGramConfig(vocabulary=150_000, entries=(1, 1, 1, 1))
    with pytest.raises(ValueError, match="at least one n-gram of every length"):
        NGramConfig(vocabulary=6, entries=(1, 0))


def test_many_contexts_at_once_are_as_one_by_one(model: NGram) -> None:
    contexts, tokens = np.array([[6, 0, 1], [3, 3, 3], [5, 5, 0], [4, 0, 1]]), np.array([2, 5, 1, 7])
    single = [model.log_p(tuple(row), tokens[i : i + 1])[0] for i, row in enumerate(contexts.tolist())]
    assert model.log_p(contexts, tokens).tolist() == single
