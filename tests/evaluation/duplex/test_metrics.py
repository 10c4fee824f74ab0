import pytest

from icebreaker.evaluation.duplex.metrics import (
    Span,
    Word,
    backchannels,
    latency_s,
    longest_s,
    overlap_s,
    runs,
    stop_s,
    takes_turn,
)


def words(*starts: float, length_s: float = 0.2) -> list[Word]:
    return [Word("w", start, start + length_s) for start in starts]


@pytest.mark.parametrize(
    ("said", "takes"),
    [
        ([], False),
        (words(5.0), False),
        (words(5.0, 5.25, 5.5), False),  # three words in 0.7 s
        (words(5.0, 5.2, 5.4, 5.6), True),  # four words
        (words(5.0, 5.8), True),  # exactly a second
        (words(5.0, 5.79), False),
    ],
)
def test_turn_over(said: list[Word], takes: bool) -> None:
    assert takes_turn(said) is takes


def test_latency_is_clamped_and_only_of_turns() -> None:
    said = words(5.5, 6.5)
    assert latency_s(said, 5.0) == pytest.approx(0.5)
    assert latency_s(said, 5.8) == 0.0
    assert latency_s(words(5.5), 5.0) is None


def test_backchannels_and_takeovers() -> None:
    said = [*words(1.0, 1.2), *words(3.0), *words(5.0, 5.3, 5.6), *words(8.0, 8.9, length_s=0.6)]
    assert [len(run) for run in runs(said)] == [2, 1, 3, 2]
    assert backchannels(said) == 2  # three words are none, nor is a run over a second
    assert longest_s(said) == pytest.approx(1.5)
    assert longest_s([]) == 0.0


def test_both_sound() -> None:
    assistant = [Span(1.0, 3.0), Span(4.0, 6.0)]
    assert overlap_s(assistant, Span(2.5, 4.5)) == pytest.approx(1.0)
    assert overlap_s(assistant, Span(3.2, 3.8)) == 0.0
    assert stop_s(assistant, 2.5) == pytest.approx(0.5)
    assert stop_s(assistant, 3.5) is None
