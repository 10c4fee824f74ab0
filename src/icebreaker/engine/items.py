"""What a conversation consists of, as both sides name it. Plain values; knows nothing of what a model keeps of it."""

from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["Item", "settled"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One entry of the conversation.

    Attributes:
        id: unique in the conversation.
        kind: what it is.
        role: of a message.
        text: what was written, heard (audio messages: the transcript, once known) or put out by a function.
        audio_ms: length of the audio of the message; 0 is text alone. For the assistant: what may count as heard.
        status: of an assistant's message: ``in_progress``, ``completed``, ``incomplete`` (cut short).
        name, arguments, call_id: of a function call; ``call_id`` also of its output.
    """

    id: str
    kind: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["system", "user", "assistant"] | None = None
    text: str = ""
    audio_ms: float = 0.0
    status: Literal["in_progress", "completed", "incomplete"] = "completed"
    name: str = ""
    arguments: str = ""
    call_id: str = ""


def settled(item: Item) -> Item:
    """The item as whoever takes the conversation over finds it: an answer that was under way was cut short."""
    return replace(item, status="incomplete") if item.status == "in_progress" else item
