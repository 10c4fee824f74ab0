"""Whether a response answers a question: one scorer for text, for speech, and for every system."""

import re
from collections.abc import Sequence

from icebreaker.evaluation.wording import readings

__all__ = ["is_correct", "normal_forms"]

ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normal_forms(text: str) -> tuple[str, ...]:
    """``text`` as it is compared: lower case, no punctuation, no articles, numbers in words (in each usual reading)."""
    forms = (" ".join(ARTICLES.sub(" ", reading).split()) for reading in readings(text))
    return tuple(dict.fromkeys(forms))


def is_correct(response: str, accepted: Sequence[str]) -> bool:
    """Whether any accepted answer occurs as whole words in ``response``.

    An accepted answer of which nothing is left (one that consists of punctuation) never counts.
    """
    said = [f" {form} " for form in normal_forms(response)]
    wanted = [f" {form} " for answer in accepted for form in normal_forms(answer) if form]
    return any(answer in text for answer in wanted for text in said)
