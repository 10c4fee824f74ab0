import pytest

from icebreaker.text.heard import SpokenSegment, heard_text, heard_tokens
from icebreaker.text.segment import Segment

# "The capital of| France is Paris." in nine tokens; "cap|ital" and "Fra|nce" are two tokens each.
FIRST = Segment("The capital of", 0, (3, 7, 11, 14))
SECOND = Segment(" France is Paris.", 4, (4, 7, 10, 16, 17))
SPOKEN = [SpokenSegment(FIRST, 0, 1400), SpokenSegment(SECOND, 1500, 3200)]


@pytest.mark.parametrize(
    ("played", "tokens", "text"),
    [
        (0, 0, ""),
        (299, 0, ""),
        (300, 1, "The"),
        (800, 1, "The"),  # inside "capital"
        (1100, 3, "The capital"),
        (1399, 3, "The capital"),
        (1400, 4, "The capital of"),
        (1500, 4, "The capital of"),
        (2100, 4, "The capital of"),
        (2200, 6, "The capital of France"),
        (2500, 7, "The capital of France is"),
        (3199, 7, "The capital of France is"),
        (3200, 9, "The capital of France is Paris."),
        (9999, 9, "The capital of France is Paris."),
    ],
)
def test_whole_words_that_were_played_count_as_heard(played: int, tokens: int, text: str) -> None:
    assert heard_tokens(SPOKEN, played) == tokens
    assert heard_text(SPOKEN, played) == text


def test_words_whose_end_is_known_count_when_they_have_been_said() -> None:
    known = SpokenSegment(FIRST, 0, 1400, ((3, 200), (11, 400), (14, 1400)))
    for played, text in ((199, ""), (200, "The"), (399, "The"), (400, "The capital"), (1400, "The capital of")):
        assert heard_text([known], played) == text
    cut = SpokenSegment(SECOND, 1500, 3200, ((7, 1600),))  # no more was said yet
    assert heard_text([known, cut], 3199) == "The capital of France"
    assert heard_text([SpokenSegment(FIRST, 0, 1400, ())], 1399) == ""


def test_hearing_never_goes_back() -> None:
    counts = [heard_tokens(SPOKEN, played) for played in range(0, 3300, 10)]
    assert counts == sorted(counts)


def test_a_silent_segment_is_heard_with_what_follows_it() -> None:
    silent = SpokenSegment(Segment("...", 0, (3,)), 0, 0)
    rest = SpokenSegment(Segment(" Yes", 1, (4,)), 0, 100)
    assert heard_tokens([silent, rest], 0) == 0
    assert heard_tokens([silent, rest], 50) == 1
    assert heard_tokens([silent, rest], 100) == 2
    assert heard_tokens([], 50) == 0


def test_a_segment_cannot_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match="start_sample"):
        SpokenSegment(FIRST, 10, 5)
