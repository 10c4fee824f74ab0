"""What is said to a session and what it says back. Plain values; knows nothing of threads, models or wire formats.

A session takes commands in order and gives events in order. Times are milliseconds of the session's input audio.
Item ids are the caller's where it gives one; a session never invents the same id twice. Here are all of them together.
"""

from icebreaker.engine.commands import (
    AddItem,
    Append,
    Cancel,
    ClearAudio,
    Command,
    Commit,
    Configure,
    DeleteItem,
    Respond,
    Truncate,
    Waveform,
)
from icebreaker.engine.events import (
    AudioDelta,
    AudioDone,
    Committed,
    Failed,
    ItemAdded,
    ItemDeleted,
    ItemTruncated,
    PlaybackGoesOn,
    PlaybackHeld,
    Reply,
    ReplyDone,
    ReplyStarted,
    SessionEvent,
    SpeechIgnored,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    Transcribed,
    TranscriptDone,
    Usage,
)
from icebreaker.engine.items import Item, settled
from icebreaker.engine.session_config import SessionConfig, Tool

__all__ = [
    "AddItem", "Append", "AudioDelta", "AudioDone", "Cancel", "ClearAudio", "Command", "Commit", "Committed",
    "Configure", "DeleteItem", "Failed", "Item", "ItemAdded", "ItemDeleted", "ItemTruncated", "PlaybackGoesOn",
    "PlaybackHeld", "Reply", "ReplyDone", "ReplyStarted", "Respond", "SessionConfig", "SessionEvent", "SpeechIgnored",
    "SpeechStarted", "SpeechStopped", "TextDelta", "Tool", "Transcribed", "TranscriptDone", "Truncate", "Usage",
    "Waveform", "settled",
]  # fmt: skip
