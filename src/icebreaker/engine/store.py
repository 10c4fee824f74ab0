"""Conversations on disk, so that this server or another finds them again. Knows nothing of models.

A session is a folder. Who leads it writes two files: ``N.json`` with the items, and ``N.safetensors`` with the vectors
of what was said; each is written beside the old one and then put in its place. ``N`` is a claim: it goes up when
another server takes the session over, which an exclusively created file ``N.claim`` decides. So a server that lost a
session, and does not know it, writes where nobody reads any more. ``settings.json`` is the server's, not the engine's.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from icebreaker.errors import SessionNotFound

__all__ = ["SessionStore", "Stored"]

CLEAN_EVERY_S = 3600.0  # and before the first session is led
SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


class Stored(NamedTuple):
    """What is kept of a conversation: its items, with ``saved_at``, and the vectors of what was said (safetensors)."""

    data: dict[str, Any]
    speech: bytes


class SessionStore:
    """A folder of sessions, which servers may share; those older than ``keep_s`` are forgotten."""

    def __init__(self, folder: Path, keep_s: float = 24 * 3600.0) -> None:
        self.folder, self.keep_s = folder, keep_s
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._claims: dict[str, int] = {}
        self._cleaned_s = 0.0

    def save(self, session_id: str, stored: Stored) -> None:
        """Write a session that this server leads over what was there; nothing, if it leads it no more."""
        claim = self._claims.get(session_id)
        if claim is None or self.lost(session_id):
            return
        folder = self._folder(session_id)
        (folder / f"{claim}.speech.new").write_bytes(stored.speech)
        (folder / f"{claim}.session.new").write_text(json.dumps(stored.data))
        os.replace(folder / f"{claim}.speech.new", folder / f"{claim}.safetensors")  # may hold more than is asked for
        os.replace(folder / f"{claim}.session.new", folder / f"{claim}.json")
        for older in _numbers(folder, "*.json") - {claim}:
            if older < claim:
                (folder / f"{older}.json").unlink(missing_ok=True)
                (folder / f"{older}.safetensors").unlink(missing_ok=True)

    def take(self, session_id: str) -> Stored:
        """Take a session over from whoever led it, and read it.

        Raises:
            SessionNotFound: there is none, or it is damaged.
        """
        self.load(session_id)  # nothing is claimed that is not there
        self.claim(session_id)
        return self.load(session_id)

    def load(self, session_id: str) -> Stored:
        """Read a session.

        Raises:
            SessionNotFound: there is none, or it is damaged.
        """
        missing = SessionNotFound(f"no session {session_id[:40]!r} to resume; it has ended: start a new one")
        if not SAFE_ID.fullmatch(session_id):
            raise missing
        folder = self._folder(session_id)
        try:
            newest = max(_numbers(folder, "*.json"))
            data = json.loads((folder / f"{newest}.json").read_text())
            speech = (folder / f"{newest}.safetensors").read_bytes()
        except (OSError, ValueError) as error:
            raise missing from error
        if time.time() - data["saved_at"] > self.keep_s:
            raise missing
        return Stored(data, speech)

    def claim(self, session_id: str) -> None:
        """Lead a session from now on, a new one or one that somebody else led so far."""
        if time.time() - self._cleaned_s > CLEAN_EVERY_S:
            self._cleaned_s = time.time()
            self.clean()
        folder = self._folder(session_id)
        folder.mkdir(exist_ok=True, mode=0o700)
        number = max(_numbers(folder, "*.claim"), default=0) + 1
        while not _created(folder / f"{number}.claim"):
            number += 1
        self._claims[session_id] = number

    def lost(self, session_id: str) -> bool:
        """Whether another server has taken over a session since this one led it."""
        return max(_numbers(self._folder(session_id), "*.claim"), default=0) > self._claims.get(session_id, 0)

    def forgo(self, session_id: str) -> None:
        """Lead a session no longer; it stays where it is."""
        self._claims.pop(session_id, None)

    def write_settings(self, session_id: str, settings: dict[str, Any]) -> None:
        """Keep what the server has to know of a session that it leads."""
        if session_id in self._claims and not self.lost(session_id):
            folder = self._folder(session_id)
            (folder / "settings.new").write_text(json.dumps(settings))
            os.replace(folder / "settings.new", folder / "settings.json")

    def read_settings(self, session_id: str) -> dict[str, Any] | None:
        """What ``write_settings`` was given last, by any server; None if there is nothing."""
        if not SAFE_ID.fullmatch(session_id):
            return None
        try:
            settings: dict[str, Any] = json.loads((self._folder(session_id) / "settings.json").read_text())
        except (OSError, ValueError):
            return None
        return settings

    def forget(self, session_id: str) -> None:
        """Remove a session."""
        self.forgo(session_id)
        shutil.rmtree(self._folder(session_id), ignore_errors=True)

    def clean(self) -> None:
        """Remove sessions that are too old and that this server does not lead."""
        for folder in self._old():
            shutil.rmtree(folder, ignore_errors=True)

    def _old(self) -> Iterator[Path]:
        for folder in self.folder.iterdir():
            ours = folder.name in self._claims
            if not ours and SAFE_ID.fullmatch(folder.name) and time.time() - folder.stat().st_mtime > self.keep_s:
                yield folder

    def _folder(self, session_id: str) -> Path:
        return self.folder / session_id


def _numbers(folder: Path, pattern: str) -> set[int]:
    return {int(path.stem) for path in folder.glob(pattern) if path.stem.isdecimal()}


def _created(path: Path) -> bool:
    """Whether it was not there before; of several who try, one is told so."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
