"""What an LLM is asked for, and what is taken of its replies: spoken questions and spoken answers. Runs no LLM.

The two steps, and what a reply must and must not hold, follow arXiv:2409.06666v2, section 3.1; the wording is ours.
"""

import json
import re
from typing import NamedTuple

from icebreaker.data.speakable import in_words, why_unspeakable

__all__ = ["ANSWER", "QUESTION", "Wanted", "answer_prompt", "question_prompt", "take"]

SYSTEM = "You prepare data for a voice assistant. You reply with one JSON object and nothing else."
QUESTION_RULES = (
    "Somebody wrote the request below to a chat assistant. Put it the way a person would say it aloud.\n"
    "- Sound natural; a filler word such as 'um' or 'well' here and there is fine, but not in every sentence.\n"
    "- Write only what a speech synthesiser can read: no symbols, links, code, lists or brackets; "
    "spell numbers as words.\n"
    "- Keep it short, and keep what is being asked.\n"
    'Reply with {"question": "..."}.\n\n'
    "The request:\n"
)
ANSWER_RULES = (
    "A user has asked a voice assistant the question below. Give the reply that the assistant should speak.\n"
    "- Write only what a speech synthesiser can read: no symbols, brackets, headings or numbered lists; "
    "spell numbers as words.\n"
    "- Come to the point at once, in one to three sentences; leave long explanations out.\n"
    'Reply with {"response": "..."}.\n\n'
    "The question:\n"
)


class Wanted(NamedTuple):
    """One field of the JSON that is asked for, and how long it may be."""

    field: str
    most_words: int


QUESTION, ANSWER = "question", "response"
FENCE = re.compile(r"^```(?:json)?\s*|\s*```$")


def question_prompt(instruction: str) -> tuple[str, str]:
    """System and user message that ask for a spoken form of ``instruction``."""
    return SYSTEM, QUESTION_RULES + instruction


def answer_prompt(question: str) -> tuple[str, str]:
    """System and user message that ask for a spoken answer to ``question``."""
    return SYSTEM, ANSWER_RULES + question


def take(reply: str, wanted: Wanted, *, plain: bool) -> tuple[str | None, str | None]:
    """The spoken text in an LLM's ``reply``, or the reason there is none: exactly one of the two.

    Args:
        reply: what the LLM said.
        wanted: the field of the JSON object, and its limit.
        plain: take a reply that is no JSON as the text itself; for LLMs too small to write JSON.

    Returns:
        (text, None) or (None, reason); the reasons are those of ``speakable.REASONS`` and "no json".
    """
    text = _field(reply, wanted.field)
    if text is None and plain and "{" not in reply:
        text = reply.strip()
    if text is None:
        return None, "no json"
    reason = why_unspeakable(text, wanted.most_words)
    return (None, reason) if reason else (in_words(text), None)


def _field(reply: str, name: str) -> str | None:
    """Field ``name`` of the first JSON object in ``reply``, whatever stands around it."""
    reply = FENCE.sub("", reply.strip())
    start = reply.find("{")
    if start < 0:
        return None
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(reply[start:])
    except json.JSONDecodeError:
        return None
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) else None
