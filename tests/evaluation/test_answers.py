import pytest

from icebreaker.evaluation.answers import is_correct, normal_forms
from icebreaker.evaluation.wording import words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 21 %, isn't it?", "it's twenty one percent isn't it"),
        ("The 3rd of 1,250", "the third of one thousand two hundred fifty"),
        ("3.5 metres", "three point five metres"),
        ("one hundred and five; rock and roll", "one hundred five rock and roll"),
        ("‘Quoted’ Zürich", "quoted zürich"),
        ("...", ""),
    ],
)
def test_words_of(text: str, expected: str) -> None:
    assert words_of(text) == expected


def test_normal_forms_drop_articles_and_read_years_both_ways() -> None:
    assert normal_forms("In 1969, a man") == (
        "in one thousand nine hundred sixty nine man",
        "in nineteen sixty nine man",
    )
    assert normal_forms("The Theatre") == ("theatre",)


@pytest.mark.parametrize(
    ("response", "accepted", "right"),
    [
        ("The capital of France is Paris.", ["Paris"], True),
        ("Parisians like it.", ["Paris"], False),  # whole words only
        ("It was the Beatles!", ["Stones", "The Beatles"], True),
        ("There are 12.", ["twelve"], True),
        ("He was born in nineteen sixty-nine.", ["1969"], True),
        ("In 1969.", ["nineteen sixty nine"], True),
        ("Eight minus six is two.", ["Eight minus six is two."], True),
        ("Six minus eight is two.", ["Eight minus six is two."], False),
        ("", ["Paris"], False),
        ("Anything at all", ["?!"], False),
        ("Anything at all", ["the"], False),
    ],
)
def test_is_correct(response: str, accepted: list[str], right: bool) -> None:
    assert is_correct(response, accepted) is right
