"""Events on their way from an engine's thread to the event loop that reads them. Knows nothing of what they say."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable

from icebreaker.engine.messages import SessionEvent

__all__ = ["Outbox"]


class Outbox:
    """A queue that any thread may fill and one reader at a time empties.

    It holds at most ``limit`` events: a reader that lags further behind is gone for all we know, and what it misses is
    counted in ``lost``.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self.limit = limit
        self.lost = 0
        self._events: deque[SessionEvent] = deque()
        self._reader = 0  # which attachment is the current one
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._closed = False

    def attach(self) -> int:
        """Bind to the running event loop; an earlier reader comes to its end."""
        self._nudge()
        self._reader += 1
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        if self._events or self._closed:
            self._wake.set()
        return self._reader

    def put(self, events: Iterable[SessionEvent]) -> None:
        """Add events, from any thread."""
        if self._closed:
            return
        for event in events:
            if len(self._events) >= self.limit:
                self.lost += 1
                continue
            self._events.append(event)
        self._nudge()

    def close(self) -> None:
        """No more events: readers end after those that wait."""
        self._closed = True
        self._nudge()

    def take(self) -> list[SessionEvent]:
        """What waits, without waiting."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def clear(self) -> None:
        """Forget what nobody has read."""
        self._events.clear()

    async def read(self, reader: int) -> AsyncIterator[SessionEvent]:
        """Events as they come, until the outbox is closed or another reader is attached."""
        wake = self._wake
        while reader == self._reader and wake is not None:
            while self._events and reader == self._reader:
                yield self._events.popleft()
            if self._closed or reader != self._reader:
                return
            await wake.wait()
            wake.clear()

    def _nudge(self) -> None:
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(wake.set)
            except RuntimeError:  # the loop was closed in between
                return
