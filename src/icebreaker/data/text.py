"""Words as they are spoken: numbers spelled out, and the 28 symbols of CTC targets. Knows nothing of audio."""

import re
import unicodedata

__all__ = ["is_speakable", "normalise", "number_words"]

SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = (
    "zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip
LARGEST = 999_999
SPEAKABLE = re.compile(r"[A-Za-z][A-Za-z' ,.?!-]*")  # no digits, no symbols whose reading is anyone's guess


def number_words(number: int) -> str:
    """``342`` as "three hundred forty two".

    Raises:
        ValueError: the number is outside -999999 to 999999.
    """
    if abs(number) > LARGEST:
        raise ValueError(f"expected a number within ±{LARGEST}, got {number}")
    if number < 0:
        return f"minus {number_words(-number)}"
    if number < len(SMALL):
        return SMALL[number]
    for unit, name in ((1000, "thousand"), (100, "hundred")):
        if number >= unit:
            rest = f" {number_words(number % unit)}" if number % unit else ""
            return f"{number_words(number // unit)} {name}{rest}"
    return TENS[number // 10] + (f" {SMALL[number % 10]}" if number % 10 else "")


def normalise(text: str) -> str:
    """Lower case a to z, apostrophe and single spaces; digits become words, accents are dropped."""
    ascii_text = unicodedata.normalize("NFKD", text.replace("’", "'")).encode("ascii", "ignore").decode()
    spelled = re.sub(r"\d+", lambda match: f" {_digits_words(match.group())} ", ascii_text)
    return " ".join(re.sub(r"[^a-z' ]", " ", spelled.lower()).split())


def is_speakable(text: str) -> bool:
    """Whether every character of ``text`` has one obvious reading (no digits, no symbols, no accents)."""
    return SPEAKABLE.fullmatch(text) is not None


def _digits_words(digits: str) -> str:
    if len(digits) > len(str(LARGEST)) or (digits[0] == "0" and len(digits) > 1):
        return " ".join(SMALL[int(digit)] for digit in digits)
    return number_words(int(digits))
