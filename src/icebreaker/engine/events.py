"""What a session says back. Plain values; knows nothing of why it happens, or of wire formats."""

from dataclasses import dataclass, field
from typing import Literal

from icebreaker.engine.commands import Command, Waveform
from icebreaker.engine.items import Item

__all__ = [
    "AudioDelta", "AudioDone", "Committed", "Failed", "ItemAdded", "ItemDeleted", "ItemTruncated", "PlaybackGoesOn",
    "PlaybackHeld", "Reply", "ReplyDone", "ReplyStarted", "SessionEvent", "SpeechIgnored", "SpeechStarted",
    "SpeechStopped", "TextDelta", "Transcribed", "TranscriptDone", "Usage",
]  # fmt: skip


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


@dataclass(frozen=True)
class PlaybackHeld:
    """Pause what plays, and keep it: somebody may be interrupting. Only for who asked (``playback_hold``)."""


@dataclass(frozen=True)
class PlaybackGoesOn:
    """It was nobody: play on at the very next sample. After an interruption ``SpeechStarted`` comes instead."""


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
    | ReplyStarted | TextDelta | AudioDelta | PlaybackHeld | PlaybackGoesOn | TranscriptDone | AudioDone | ReplyDone
    | Failed
)  # fmt: skip
