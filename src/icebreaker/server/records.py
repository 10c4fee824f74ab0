"""What the server itself remembers of sessions: how they are led, and whose they are. Knows nothing of conversations.

With a ``SessionStore`` this lies beside the conversation, so that another server which takes it over knows as much.
"""

import logging
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import anyio.to_thread

from icebreaker.config import from_mapping
from icebreaker.engine.store import SessionStore
from icebreaker.errors import ConfigError
from icebreaker.server.settings import Settings

__all__ = ["Left", "Records"]

logger = logging.getLogger(__name__)

REMEMBERED = 10_000  # sessions that somebody may come back to


@dataclass(frozen=True)
class Left:
    """A session's settings, and a digest of the API key that began it."""

    settings: Settings
    key: bytes


class Records:
    """Sessions by id, the newest ``REMEMBERED`` of them, and those in ``store``."""

    def __init__(self, store: SessionStore | None = None) -> None:
        self._store = store
        self._left: OrderedDict[str, Left] = OrderedDict()
        self._writer = ThreadPoolExecutor(1, "settings-to-disk") if store is not None else None

    def keep(self, session_id: str, left: Left) -> None:
        """Remember, and write to disk in a while."""
        known = self._left.pop(session_id, None)
        self._left[session_id] = left
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        if self._writer is not None and known != left:
            self._writer.submit(self._write, session_id, left)

    async def find(self, session_id: str) -> Left | None:
        """What is known of a session; None if nothing is."""
        if self._store is None:
            return self._left.get(session_id)
        if session_id in self._left and not await anyio.to_thread.run_sync(self._store.lost, session_id):
            return self._left[session_id]
        return _read(await anyio.to_thread.run_sync(self._store.read_settings, session_id))

    def forget(self, session_id: str) -> None:
        """There is no such session any more."""
        self._left.pop(session_id, None)

    def close(self) -> None:
        """Finish writing."""
        if self._writer is not None:
            self._writer.shutdown()

    def _write(self, session_id: str, left: Left) -> None:
        assert self._store is not None
        try:
            self._store.write_settings(session_id, {"key": left.key.hex(), "settings": asdict(left.settings)})
        except OSError as error:
            logger.warning("the settings of a session could not be stored: %s", error)


def _read(stored: dict[str, Any] | None) -> Left | None:
    if stored is None:
        return None
    try:
        values = dict(stored["settings"])
        tracing = values.pop("tracing")  # of any type; all else has one
        settings = replace(from_mapping(Settings, values, "settings"), tracing=tracing)
        return Left(settings, bytes.fromhex(stored["key"]))
    except (ConfigError, KeyError, TypeError, ValueError) as error:  # of another version of this program
        logger.warning("the settings of a session could not be read: %s", error)
        return None
