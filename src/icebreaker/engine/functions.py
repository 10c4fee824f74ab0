"""Functions that an LLM may call: how they are declared, and how a call is read from its text. Pure text.

Two ways of writing a call are read: ``<tool_call>{"name": .., "arguments": ..}</tool_call>`` (Hermes, Qwen), and a bare
``{"name": .., "parameters": ..}`` (Llama 3.1). Nothing of either is spoken.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from icebreaker.engine.messages import Tool

__all__ = ["Called", "aloud", "declared", "forced_start", "parse"]

OPENING, CLOSING = "<tool_call>", "</tool_call>"
BARE = ("{", "[", "<|python_tag|>")  # what a reply that is all call begins with


class Called(NamedTuple):
    """A call that the LLM wrote; ``arguments`` is JSON."""

    name: str
    arguments: str


def declared(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """As chat templates expect them."""
    return [
        {"type": "function",
         "function": {"name": each.name, "description": each.description, "parameters": each.parameters}}
        for each in tools
    ]  # fmt: skip


def aloud(text: str) -> str:
    """What of a reply that may hold calls is for the ear: what stands before the first one.

    Grows with ``text``: a tail that may yet become the start of a call is held back.
    """
    start = text.lstrip()
    if start.startswith(BARE) or any(mark.startswith(start) for mark in BARE):
        return ""
    head, found, _ = text.partition(OPENING)
    if found:
        return head
    for length in range(min(len(OPENING) - 1, len(head)), 0, -1):
        if OPENING.startswith(head[-length:]):
            return head[:-length]
    return head


def parse(text: str) -> tuple[str, list[Called]]:
    """The spoken part of a finished reply, and its calls.

    Raises:
        ValueError: something was begun as a call and cannot be read.
    """
    if text.lstrip().startswith(BARE):
        return "", _calls(text.replace("<|python_tag|>", "").strip())
    head, found, rest = text.partition(OPENING)
    if not found:
        return text, []
    bodies = re.split(f"{OPENING}|{CLOSING}", rest)
    return head, [call for body in bodies if body.strip() for call in _calls(body.strip())]


def forced_start(choice: str, template: str) -> str:
    """The start of a call that makes the LLM call (``required``, or one function by name); empty where it is free."""
    if choice in ("auto", "none"):
        return ""
    start = f"{OPENING}\n" if OPENING in template else ""
    if choice == "required":
        return f'{start}{{"name": "'
    key = "arguments" if OPENING in template else "parameters"
    return f'{start}{{"name": "{choice}", "{key}": '


def _calls(body: str) -> list[Called]:
    try:
        value, _ = json.JSONDecoder().raw_decode(body)
        values = value if isinstance(value, list) else [value]
        return [Called(str(each["name"]), json.dumps(_arguments(each))) for each in values]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"expected a call as JSON with a name and arguments, the LLM wrote {body[:200]!r}") from error


def _arguments(call: dict[str, Any]) -> Any:
    arguments = call.get("arguments", call.get("parameters", {}))
    return json.loads(arguments) if isinstance(arguments, str) else arguments
