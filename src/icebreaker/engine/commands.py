"""What is said to a session. Plain values; knows nothing of who carries it out, or of wire formats."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from icebreaker.engine.items import Item
from icebreaker.engine.session_config import SessionConfig, Tool

__all__ = [
    "AddItem", "Append", "Cancel", "ClearAudio", "Command", "Commit", "Configure", "DeleteItem", "Respond", "Truncate",
    "Waveform",
]  # fmt: skip

Waveform = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Configure:
    """Lead the conversation by ``config`` from now on. New instructions count from the next reply."""

    config: SessionConfig


@dataclass(frozen=True, kw_only=True)
class Append:
    """The user's audio goes on: float32 [S] at 16 kHz in [-1, 1], of any length."""

    waveform: Waveform


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The audio not yet committed is a user message; a reply needs ``Respond``."""

    item_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClearAudio:
    """Forget the audio not yet committed."""


@dataclass(frozen=True, kw_only=True)
class AddItem:
    """Put ``item`` into the conversation, after ``previous_item_id`` (None: at the end, ``"root"``: first).

    ``waveform`` [S] at 16 kHz is the speech of a user's message, where it is spoken.
    """

    item: Item
    previous_item_id: str | None = None
    waveform: Waveform | None = None


@dataclass(frozen=True, kw_only=True)
class DeleteItem:
    """Take an item out of the conversation: the model forgets it."""

    item_id: str


@dataclass(frozen=True, kw_only=True)
class Truncate:
    """Of the assistant's message, only ``audio_end_ms`` were heard: the model forgets the rest."""

    item_id: str
    audio_end_ms: float


@dataclass(frozen=True, kw_only=True)
class Respond:
    """Reply now, to the conversation as it stands.

    Attributes:
        response_id: the caller's name for it, given back in every event of the reply.
        instructions: instead of the session's, for this reply.
        output: instead of the session's.
        max_output_tokens: instead of the session's.
        tools, tool_choice: instead of the session's; None keeps them.
        in_conversation: whether the reply becomes part of the conversation.
    """

    response_id: str | None = None
    instructions: str | None = None
    output: Literal["audio", "text"] | None = None
    max_output_tokens: int | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: str | None = None
    in_conversation: bool = True


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Stop the reply; what was sent of it stays in the conversation until a ``Truncate`` says what was heard."""


Command = Configure | Append | Commit | ClearAudio | AddItem | DeleteItem | Truncate | Respond | Cancel
