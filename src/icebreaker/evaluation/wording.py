"""Texts as they are compared: lower case words without punctuation, numbers in words. Knows nothing of audio."""

import re
import unicodedata
from collections.abc import Callable

from icebreaker.extras import load_extra

__all__ = ["readings", "words_of"]

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:st|nd|rd|th)?\b|\d+", re.IGNORECASE)
ORDINAL = ("st", "nd", "rd", "th")
YEARS = range(1100, 2100)
SIGNS = {"%": " percent ", "&": " and ", "+": " plus ", "=": " equals ", "$": " dollars ", "°": " degrees "}


def words_of(text: str) -> str:
    """``text`` in lower case, one space between words, numbers spelled out, no punctuation but apostrophes in words.

    >>> words_of("It's 21 %, isn't it?")
    "it's twenty one percent isn't it"
    """
    return _plain(text, _cardinal)


def readings(text: str) -> tuple[str, ...]:
    """``words_of(text)``, and the same with four-digit years read as years ("nineteen sixty nine"), if that differs."""
    return tuple(dict.fromkeys((words_of(text), _plain(text, _year))))


def _plain(text: str, spell: Callable[[str], str]) -> str:
    text = unicodedata.normalize("NFKC", text).replace("’", "'").lower()
    text = NUMBER.sub(lambda match: f" {spell(match.group())} ", text)
    for sign, word in SIGNS.items():
        text = text.replace(sign, word)
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    text = " ".join(re.sub(r"[^\w' ]|_", " ", text).split())
    return re.sub(r"\b(hundred|thousand|million|billion) and\b", r"\1", text)


def _cardinal(digits: str) -> str:
    number = digits.lower().replace(",", "")
    ordinal = number.endswith(ORDINAL)
    number = number[:-2] if ordinal else number
    spell = load_extra("num2words").num2words
    value = float(number) if "." in number else int(number)
    try:
        return str(spell(value, to="ordinal" if ordinal and isinstance(value, int) else "cardinal"))
    except OverflowError:  # beyond all names: digit by digit
        return " ".join(spell(int(digit)) for digit in number if digit.isdigit())


def _year(digits: str) -> str:
    if len(digits) == 4 and digits.isdigit() and int(digits) in YEARS:
        return str(load_extra("num2words").num2words(int(digits), to="year"))
    return _cardinal(digits)
