"""Whether a text can be said aloud, and why not; small repairs first. Knows nothing of where texts come from.

The reasons are counted by the recipe (docs/instruct-s2s.md), so that one sees what an instruction set loses, and where.
"""

import re

from icebreaker.data.text import LARGEST, is_speakable, number_words

__all__ = ["REASONS", "in_words", "why_unspeakable"]

REASONS = {
    "empty": "nothing is left to say",
    "code": "program text",
    "url": "a web or mail address, or a path",
    "table": "columns, rows, bullet points or numbered items",
    "markup": "headings, emphasis, tags or formulas",
    "non-english": "not English words",
    "symbols": "characters with no one reading",
    "too long": "more words than a turn should have",
    "repetitive": "the same words over and over",
}
CODE = re.compile(
    r"```|\bdef \w+\(|\bclass \w+[:({]|#include|\bfunction\s*\w*\(|=>|[{};]\s*$|\w+\(\)|\bSELECT\b.+\bFROM\b", re.M
)
URL = re.compile(r"https?://|www\.|\S+@\S+\.\w|\w+\.(?:com|org|net|html|py|txt)\b|(?:^|\s)(?:/|~/|[A-Z]:\\)\w")
TABLE = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S|\|.*\||\t", re.M)
MARKUP = re.compile(r"^#+ |\*\*|__|</?\w+[^<>]*>|\$[^$]+\$|\\\w+|\[[^\]]*\]|\^|[=≈≤≥±×÷∑∫√]", re.M)
NUMBER = re.compile(r"(?<![\w.])(-?)(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?(%?)(?![\w.]*\d)")
SPELLINGS = {
    "’": "'",
    "‘": "'",
    "“": "",
    "”": "",
    '"': "",
    "—": ", ",
    "–": "-",
    "…": ".",
    "&": " and ",
    ";": ",",
    ":": ",",
}
BRACKETS = re.compile(r"\s*\([^()]*\)")
COMMON = re.compile(  # words that an English sentence hardly does without
    r"\b(?:the|an?|of|to|in|on|at|is|are|were|be|do|does|did|can|could|will|would|should|i|you|he|it|we|they|my|your|"
    r"me|what|who|how|why|when|where|which|and|or|but|for|with|from|that|this|have|has|not|no|yes|please|tell|if)\b"
)
ENOUGH_WORDS = 6  # from which some common word is expected
LEAST_COMMON = 0.05  # share of them
PHRASE, TIMES = 3, 3  # so many words, so often: repetitive


def in_words(text: str) -> str:
    """``text`` with numbers as words and without marks that TTS stumbles over; brackets go with what they hold.

    "It’s 25% (more or less)…" is "It's twenty five percent."
    """
    for mark, spelling in SPELLINGS.items():
        text = text.replace(mark, spelling)
    text = NUMBER.sub(_spell, BRACKETS.sub("", text))
    text = re.sub(r"\s*,(?:\s*,)*\s*", ", ", text)
    return re.sub(r"\s+", " ", text).strip(" ,-")


def why_unspeakable(text: str, most_words: int) -> str | None:
    """The key in ``REASONS`` that keeps ``text`` from being said aloud in at most ``most_words`` words; None: it can.

    ``text`` is as its author wrote it; what ``in_words`` repairs is no reason.
    """
    for reason, pattern in (("code", CODE), ("url", URL), ("table", TABLE), ("markup", MARKUP)):
        if pattern.search(text):
            return reason
    spoken = in_words(text)
    words = re.findall(r"[a-z]+(?:'[a-z]+)*", spoken.lower())
    if not words:
        return "non-english" if any(map(str.isalpha, text)) else "empty"
    if not _is_english(spoken, words):
        return "non-english"
    if len(words) > most_words:
        return "too long"
    if _repeats(words):
        return "repetitive"
    return None if is_speakable(spoken) else "symbols"


def _spell(match: re.Match[str]) -> str:
    sign, whole, fraction, percent = match.groups()
    number = int(whole.replace(",", ""))
    if number > LARGEST:
        return match.group()  # left as it is, and dropped for it
    words = ("minus " if sign else "") + number_words(number)
    if fraction:
        words += " point " + " ".join(number_words(int(digit)) for digit in fraction)
    return words + (" percent" if percent else "")


def _is_english(text: str, words: list[str]) -> bool:
    foreign = any(letter.isalpha() and not letter.isascii() for letter in text)
    common = sum(COMMON.fullmatch(word) is not None for word in words)
    return not foreign and (len(words) < ENOUGH_WORDS or common >= LEAST_COMMON * len(words))


def _repeats(words: list[str]) -> bool:
    phrases = [tuple(words[i : i + PHRASE]) for i in range(len(words) - PHRASE + 1)]
    return any(phrases.count(phrase) >= TIMES for phrase in set(phrases))
