"""Events on their way from an engine's thread to the event loop that reads them. Knows nothing of what they say.

All but sound pass at once; sound passes when its ``Valve`` lets it, and so does word that it is held.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from threading import Lock

from icebreaker.engine.messages import AudioDelta, SessionEvent
from icebreaker.engine.valve import Valve

__all__ = ["Outbox"]


class Outbox:
    """A queue that any thread may fill and one reader at a time empties.

    It holds at most ``limit`` events: a reader that lags further behind is gone for all we know, and what it misses is
    counted in ``lost``.

    Args:
        valve: of the sound.
        clock: in seconds; the valve's.
        limit: of events that wait.
    """

    def __init__(self, valve: Valve, clock: Callable[[], float] = time.monotonic, limit: int = 20_000) -> None:
        self.limit = limit
        self.lost = 0
        self._valve, self._clock = valve, clock
        self._events: deque[SessionEvent] = deque()
        self._filling = Lock()  # sound that was taken out of the valve comes before what is put in afterwards
        self._reader = 0  # which attachment is the current one
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._closed = False
        valve.changed = self._nudge

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
        with self._filling:
            for event in events:
                if isinstance(event, AudioDelta):
                    self._valve.put(event)
                    self._fill()
                else:
                    self._add(event)
        self._nudge()

    def close(self) -> None:
        """No more events: readers end after those that wait."""
        self._closed = True
        self._nudge()

    def take(self) -> list[SessionEvent]:
        """What waits, without waiting."""
        with self._filling:
            self._fill()
        return [self._events.popleft() for _ in range(len(self._events))]

    def clear(self) -> None:
        """Forget what nobody has read."""
        self._events.clear()

    async def read(self, reader: int) -> AsyncIterator[SessionEvent]:
        """Events as they come, until the outbox is closed or another reader is attached."""
        wake = self._wake
        while reader == self._reader and wake is not None:
            with self._filling:
                self._fill()
            while self._events and reader == self._reader:
                yield self._events.popleft()
            if self._closed or reader != self._reader:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._valve.due_in(self._clock())):
                    await wake.wait()
            wake.clear()

    def _fill(self) -> None:
        """Move the sound that is due to the events."""
        for due in self._valve.take(self._clock()):
            self._add(due)

    def _add(self, event: SessionEvent) -> None:
        if len(self._events) >= self.limit:
            self.lost += 1
        else:
            self._events.append(event)

    def _nudge(self) -> None:
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(wake.set)
            except RuntimeError:  # the loop was closed in between
                return
