import math

import pytest

from icebreaker.evaluation.measures import error_counts, error_rates, share, spread_of


def test_error_rates_are_pooled() -> None:
    first = error_counts("a b c d", "a x c")  # one substituted, one deleted
    second = error_counts("e", "e f")  # one inserted
    assert (first["words"], first["words_wrong"], second["words_wrong"]) == (4, 2, 1)
    assert error_rates([first, second]) == {"wer": pytest.approx(60.0), "cer": pytest.approx(60.0)}


def test_characters_do_not_count_spaces() -> None:
    assert error_counts("ice berg", "iceberg") == {"words": 2, "words_wrong": 2, "characters": 7, "characters_wrong": 0}


def test_nothing_said_and_nothing_heard() -> None:
    assert error_counts("", "two words")["words_wrong"] == 2
    assert error_counts("two words", "")["words_wrong"] == 2
    assert error_counts("", "")["characters_wrong"] == 0


def test_share_has_wilsons_interval() -> None:
    figure = share([True] * 9 + [False])
    assert figure["percent"] == pytest.approx(90.0)
    assert (figure["low"], figure["high"]) == (pytest.approx(59.58, abs=0.01), pytest.approx(98.21, abs=0.01))
    assert math.isnan(share([])["percent"])


def test_spread_of() -> None:
    assert spread_of([1.0, 2.0, 3.0, 4.0, 10.0]) == {
        "average": 4.0, "p50": 3.0, "p90": pytest.approx(7.6), "count": 5
    }  # fmt: skip
