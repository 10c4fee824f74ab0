"""A conversation as plain data and vectors, to be stored, and back. Knows nothing of files."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from icebreaker.engine.memory import Memory, Remembered
from icebreaker.engine.messages import Item, settled
from icebreaker.engine.store import Stored
from icebreaker.errors import SessionNotFound
from icebreaker.text.heard import SpokenSegment
from icebreaker.text.segment import Segment

__all__ = ["Snapshot", "restore", "snapshot"]

VERSION = 2


@dataclass(frozen=True)
class Snapshot:
    """A conversation as plain data and tensors that nobody writes to."""

    session_id: str
    data: dict[str, Any]
    blobs: Mapping[int, Tensor]

    def stored(self) -> Stored:
        """As a ``SessionStore`` keeps it."""
        return Stored(self.data, save({str(key): blob.contiguous().cpu() for key, blob in self.blobs.items()}))


def snapshot(session_id: str, memory: Memory, replies: int, model: str) -> Snapshot:
    """The conversation as it stands; ``replies`` begun so far, ``model`` the fingerprint of what made the vectors."""
    entries = []
    for entry in memory.conversation:
        assert isinstance(entry, Remembered)
        spans = [[asdict(span.segment), span.start_sample, span.stop_sample, span.words] for span in entry.spans]
        plain = {"blob": entry.blob, "tokens": entry.tokens, "heard": entry.heard, "forgotten": entry.forgotten}
        entries.append({"item": asdict(entry.item), "spans": spans, **plain})
    data = {"version": VERSION, "model": model, "replies": replies, "saved_at": time.time(), "entries": entries}
    used = {entry["blob"] for entry in entries}
    return Snapshot(session_id, data, {key: blob for key, blob in memory.blobs.items() if key in used})


def restore(saved: Stored, memory: Memory, model: str) -> int:
    """Put a saved conversation into an empty memory; returns the number of replies begun so far.

    Raises:
        SessionNotFound: it was made by another model, by another version of this program, or is damaged.
    """
    if (saved.data["version"], saved.data["model"]) != (VERSION, model):
        raise SessionNotFound("the session was led by another model, whose vectors mean nothing here; start a new one")
    device = memory.device
    try:
        blobs = load(saved.speech)
    except SafetensorError as error:
        raise SessionNotFound("what is stored of the session is damaged; start a new one") from error
    for each in saved.data["entries"]:
        spans = tuple(_span(*span) for span in each["spans"])
        blob = 0
        if each["blob"]:
            blob = memory.new_blob()
            memory.blobs[blob] = blobs[str(each["blob"])].to(device)
        item = settled(Item(**each["item"]))
        entry = Remembered(item, blob, tuple(each["tokens"]), each["heard"], spans, each["forgotten"])
        memory.add(entry)
    return int(saved.data["replies"])


def _span(segment: dict[str, Any], start: int, stop: int, words: list[tuple[int, int]] | None) -> SpokenSegment:
    text = Segment(segment["text"], segment["start"], tuple(segment["ends"]))
    return SpokenSegment(text, start, stop, None if words is None else tuple((end, said) for end, said in words))
