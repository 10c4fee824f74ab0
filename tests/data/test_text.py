import pytest

from icebreaker.data.text import is_speakable, normalise, number_words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (20, "twenty"),
        (42, "forty two"),
        (100, "one hundred"),
        (365, "three hundred sixty five"),
        (10_017, "ten thousand seventeen"),
        (-7, "minus seven"),
        (999_999, "nine hundred ninety nine thousand nine hundred ninety nine"),
    ],
)
def test_number_words(number: int, words: str) -> None:
    assert number_words(number) == words


def test_a_number_too_large_says_so() -> None:
    with pytest.raises(ValueError, match="within ±999999, got 1000000"):
        number_words(1_000_000)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("What's the capital of France?", "what's the capital of france"),
        ("  One,two -- THREE. ", "one two three"),
        ("7 plus 12", "seven plus twelve"),
        ("agent 007", "agent zero zero seven"),
        ("1234567", "one two three four five six seven"),
        ("don’t café", "don't cafe"),
        ("", ""),
    ],
)
def test_normalise(text: str, normal: str) -> None:
    assert normalise(text) == normal


def test_only_plain_words_are_speakable() -> None:
    assert is_speakable("What's up, doc?")
    assert not is_speakable("pay $50")
    assert not is_speakable("at 5 p.m.")
    assert not is_speakable("-v option")
    assert not is_speakable("café")
