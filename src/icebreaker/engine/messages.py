"""What is said to a session and what it says back. Plain values; knows nothing of threads, models or wire formats.

A session takes commands in order and gives events in order. Times are milliseconds of the session's input audio.
Item ids are the caller's where it gives one; a session never invents the same id twice.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AddItem", "Append", "AudioDelta", "AudioDone", "Cancel", "ClearAudio", "Command", "Commit", "Committed",
    "Configure", "DeleteItem", "Failed", "Item", "ItemAdded", "ItemDeleted", "ItemTruncated", "Reply", "ReplyDone",
    "ReplyStarted", "Respond", "SessionConfig", "SessionEvent", "SpeechIgnored", "SpeechStarted", "SpeechStopped",
    "TextDelta", "Tool", "Transcribed", "TranscriptDone", "Truncate", "Usage", "settled",
]  # fmt: skip

Waveform = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function that the LLM may call; ``parameters`` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """How one conversation is led.

    Attributes:
        instructions: the system prompt; None is the model's own.
        turns: who ends the user's turn: ``model`` the state head with the voice detector (semantic_vad), ``silence``
            the voice detector alone (server_vad), ``client`` nobody but ``Commit`` and ``Respond``.
        eagerness: how soon ``model`` takes the turn.
        threshold: probability at which the voice detector hears speech.
        prefix_padding_ms: audio before the detected start that belongs to the utterance.
        silence_ms: of silence that end a turn under ``silence``.
        idle_timeout_ms: silence after a reply that makes the assistant speak up; None never.
        create_response: whether the end of a turn starts a reply.
        interrupt_response: whether the user's speech stops a reply.
        output: ``audio`` with its transcript, or ``text`` alone.
        temperature: of the text; None is the model's own.
        max_output_tokens: of one reply's text; None is the model's own.
        tools: functions the LLM may call.
        tool_choice: ``auto``, ``none``, ``required`` or a tool's name.
        transcribe: whether ``Transcribed`` events are wanted.
        seed: of every random draw.
    """

    instructions: str | None = None
    turns: Literal["model", "silence", "client"] = "model"
    eagerness: Literal["low", "auto", "medium", "high"] = "auto"
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_ms: int = 500
    idle_timeout_ms: int | None = None
    create_response: bool = True
    interrupt_response: bool = True
    output: Literal["audio", "text"] = "audio"
    temperature: float | None = None
    max_output_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    transcribe: bool = True
    seed: int = 0


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


# Commands.


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


# Events.


@dataclass(frozen=True, kw_only=True)
class SpeechStarted:
    """The user speaks; ``item_id`` is of the message this will become."""

    item_id: str
    at_ms: float


@dataclass(frozen=True, kw_only=True)
class SpeechStopped:
    """The user's turn is over."""

    item_id: str
    at_ms: float


@dataclass(frozen=True, kw_only=True)
class SpeechIgnored:
    """What was taken for speech calls for no answer (noise, a backchannel, echo): it leaves no message."""

    item_id: str
    at_ms: float


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The user's audio became a message."""

    item_id: str
    previous_item_id: str | None


@dataclass(frozen=True, kw_only=True)
class Transcribed:
    """What the user said in ``item_id``."""

    item_id: str
    text: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ItemAdded:
    """The conversation has a new item (the assistant's own message too, in progress)."""

    item: Item
    previous_item_id: str | None


@dataclass(frozen=True, kw_only=True)
class ItemDeleted:
    """Done as asked."""

    item_id: str


@dataclass(frozen=True, kw_only=True)
class ItemTruncated:
    """The conversation keeps ``text`` of the assistant's message."""

    item_id: str
    audio_end_ms: float
    text: str


@dataclass(frozen=True, kw_only=True)
class ReplyStarted:
    """A reply begins. ``previous_item_id`` is the item it follows."""

    response_id: str
    item_id: str
    previous_item_id: str | None
    output: Literal["audio", "text"]


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """More of the reply's text."""

    response_id: str
    item_id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class AudioDelta:
    """More of the reply's sound: float32 [S] at the engine's ``sample_rate``; ``start_ms`` from the reply's start."""

    response_id: str
    item_id: str
    waveform: Waveform
    start_ms: float


@dataclass(frozen=True, kw_only=True)
class TranscriptDone:
    """The text of the reply is complete."""

    response_id: str
    item_id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class AudioDone:
    """The sound of the reply is complete."""

    response_id: str
    item_id: str


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a reply took, in LLM positions."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How a reply ended.

    Attributes:
        status: as in the Realtime protocol.
        reason: ``turn_detected`` or ``client_cancelled``; ``max_output_tokens`` when incomplete; else empty.
        items: what it left in the conversation: the message, or function calls.
        usage: what it took.
        latency_ms: from the decision to take the turn to each part, and from the end of the user's speech.
        audio_ms: sound made.
    """

    status: Literal["completed", "cancelled", "failed", "incomplete"]
    reason: str = ""
    items: tuple[Item, ...] = ()
    usage: Usage = Usage()
    latency_ms: dict[str, float] = field(default_factory=dict)
    audio_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ReplyDone:
    """A reply ended."""

    response_id: str
    reply: Reply


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A command could not be carried out; the session goes on.

    Attributes:
        code: short and stable: ``item_not_found``, ``no_active_reply``, ``already_replying``, ``empty_audio``,
            ``conversation_full``, ``invalid`` ...
        message: what was expected, what came, what to do.
        command: what failed, where it was a command.
    """

    code: str
    message: str
    command: Command | None = None


SessionEvent = (
    SpeechStarted | SpeechStopped | SpeechIgnored | Committed | Transcribed | ItemAdded | ItemDeleted | ItemTruncated
    | ReplyStarted | TextDelta | AudioDelta | TranscriptDone | AudioDone | ReplyDone | Failed
)  # fmt: skip
