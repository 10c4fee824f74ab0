"""Conversations on disk, so that a server that was killed finds them again. Knows nothing of threads or devices.

A session is a folder of two files: ``session.json`` with the items, and ``speech.safetensors`` with the vectors of what
was said. Each is written beside the old one and then put in its place.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from icebreaker.engine.memory import Memory, Remembered
from icebreaker.engine.messages import Item
from icebreaker.errors import SessionNotFound
from icebreaker.text.heard import SpokenSegment
from icebreaker.text.segment import Segment

__all__ = ["SessionStore", "Snapshot", "restore", "snapshot"]

VERSION = 1
SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclass(frozen=True)
class Snapshot:
    """A conversation as plain data and tensors that nobody writes to."""

    session_id: str
    data: dict[str, Any]
    blobs: Mapping[int, Tensor]


def snapshot(session_id: str, memory: Memory, replies: int, model: str) -> Snapshot:
    """The conversation as it stands; ``replies`` begun so far, ``model`` the fingerprint of what made the vectors."""
    entries = []
    for entry in memory.conversation:
        assert isinstance(entry, Remembered)
        spans = [[asdict(span.segment), span.start_sample, span.stop_sample] for span in entry.spans]
        plain = {"blob": entry.blob, "tokens": entry.tokens, "heard": entry.heard, "forgotten": entry.forgotten}
        entries.append({"item": asdict(entry.item), "spans": spans, **plain})
    data = {"version": VERSION, "model": model, "replies": replies, "saved_at": time.time(), "entries": entries}
    used = {entry["blob"] for entry in entries}
    return Snapshot(session_id, data, {key: blob for key, blob in memory.blobs.items() if key in used})


def restore(saved: Snapshot, memory: Memory, model: str) -> int:
    """Put a saved conversation into an empty memory; returns the number of replies begun so far.

    Raises:
        SessionNotFound: it was made by another model, or by another version of this program.
    """
    if (saved.data["version"], saved.data["model"]) != (VERSION, model):
        raise SessionNotFound("the session was led by another model, whose vectors mean nothing here; start a new one")
    device = memory.device
    for each in saved.data["entries"]:
        spans = tuple(
            SpokenSegment(Segment(segment["text"], segment["start"], tuple(segment["ends"])), start, stop)
            for segment, start, stop in each["spans"]
        )
        blob = 0
        if each["blob"]:
            blob = memory.new_blob()
            memory.blobs[blob] = saved.blobs[each["blob"]].to(device)
        item = Item(**each["item"])
        entry = Remembered(item, blob, tuple(each["tokens"]), each["heard"], spans, each["forgotten"])
        memory.add(entry)
    return int(saved.data["replies"])


class SessionStore:
    """A folder of sessions; those older than ``keep_s`` are forgotten."""

    def __init__(self, folder: Path, keep_s: float = 24 * 3600.0) -> None:
        self.folder, self.keep_s = folder, keep_s
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def save(self, saved: Snapshot) -> None:
        """Write a session over what was there."""
        folder = self._folder(saved.session_id)
        folder.mkdir(exist_ok=True, mode=0o700)
        blobs = {str(key): blob.contiguous().cpu() for key, blob in saved.blobs.items()}
        save_file(blobs, folder / "speech.new")
        (folder / "session.new").write_text(json.dumps(saved.data))
        os.replace(folder / "speech.new", folder / "speech.safetensors")  # first: it may hold more than is asked for
        os.replace(folder / "session.new", folder / "session.json")

    def load(self, session_id: str) -> Snapshot:
        """Read a session.

        Raises:
            SessionNotFound: there is none, or it is damaged.
        """
        missing = SessionNotFound(f"no session {session_id[:40]!r} to resume; it has ended: start a new one")
        if not SAFE_ID.fullmatch(session_id):
            raise missing
        try:
            data = json.loads((self._folder(session_id) / "session.json").read_text())
            blobs = load_file(self._folder(session_id) / "speech.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise missing from error
        if time.time() - data["saved_at"] > self.keep_s:
            raise missing
        return Snapshot(session_id, data, {int(key): blob for key, blob in blobs.items()})

    def forget(self, session_id: str) -> None:
        """Remove a session."""
        shutil.rmtree(self._folder(session_id), ignore_errors=True)

    def clean(self) -> None:
        """Remove sessions that are too old."""
        for folder in self._old():
            shutil.rmtree(folder, ignore_errors=True)

    def _old(self) -> Iterator[Path]:
        for folder in self.folder.iterdir():
            if SAFE_ID.fullmatch(folder.name) and time.time() - folder.stat().st_mtime > self.keep_s:
                yield folder

    def _folder(self, session_id: str) -> Path:
        return self.folder / session_id
