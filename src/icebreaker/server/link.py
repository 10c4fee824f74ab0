"""One WebSocket and its conversation, from accept to close: four tasks. Knows nothing of who may enter."""

import json
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from icebreaker.engine.messages import ReplyDone, ReplyStarted, SessionEvent
from icebreaker.errors import ProtocolError
from icebreaker.server.bucket import Bucket
from icebreaker.server.config import ServerConfig
from icebreaker.server.conversation import Conversation
from icebreaker.server.fields import JSON
from icebreaker.server.metrics import Metrics

__all__ = ["GOING_AWAY", "POLICY", "RESUMED_ELSEWHERE", "TOO_BIG", "Link"]

logger = logging.getLogger(__name__)

GOING_AWAY, POLICY, TOO_BIG, BROKEN = 1001, 1008, 1009, 1011  # RFC 6455, section 7.4.1
RESUMED_ELSEWHERE = 4001
FAREWELL_S = 2.0  # for the last events and the closing frame
GONE = "client gone"


class Outbox:
    """Messages on their way to a client, with a limit on their bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._messages: deque[str] = deque()
        self._wake = anyio.Event()

    def put(self, message: str) -> bool:
        """Add a message; False where the client lags too far behind."""
        self._messages.append(message)
        self._bytes += len(message)
        self._wake.set()
        return self._bytes <= self._max_bytes

    async def wait(self) -> None:
        """Until there is something to take."""
        if not self._messages:
            self._wake = anyio.Event()
            await self._wake.wait()

    def take(self) -> str | None:
        """The next message, if there is one."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._bytes -= len(message)
        return message


class Link:
    """A conversation over a WebSocket that is already accepted."""

    def __init__(self, websocket: WebSocket, config: ServerConfig, metrics: Metrics) -> None:
        now = time.monotonic()
        self.websocket, self.config, self.metrics = websocket, config, metrics
        self.if_ended = (RESUMED_ELSEWHERE, "this session goes on over another connection")  # code and reason
        self._outbox = Outbox(config.max_outbox_bytes)
        self._scope: anyio.CancelScope | None = None
        self._ending: tuple[int, str] | None = None  # code and reason, once it is decided
        self._started, self._last_message = now, now
        self._messages = Bucket(config.messages_per_s, config.message_burst, now)
        self._sound = Bucket(config.audio_speed, config.audio_burst_s, now)
        self._reply_started = now
        self._about: Mapping[str, Any] = {}

    async def run(self, conversation: Conversation, about: Mapping[str, Any]) -> str:
        """Talk until somebody ends it; returns why it ended. ``about`` goes into every line of the log."""
        self._about = about
        try:
            async with anyio.create_task_group() as tasks:
                self._scope = tasks.cancel_scope
                conversation.begin()
                tasks.start_soon(self._send)
                tasks.start_soon(self._listen, conversation)
                tasks.start_soon(self._watch, conversation)
                await self._receive(conversation)
        finally:
            with anyio.CancelScope(shield=True):
                await self._farewell()
            self.metrics.client_errors.inc(conversation.errors)
        return self._ending[1] if self._ending else GONE

    def say(self, event: JSON) -> None:
        """Send an event, as soon as the client takes it."""
        if not self._outbox.put(json.dumps(event, separators=(",", ":"))):
            self.end(POLICY, "client reads too slowly")

    def end(self, code: int, reason: str) -> None:
        """Close the connection with ``code``; the first reason counts."""
        if self._ending is None:
            self._ending = (code, reason)
        if self._scope is not None:
            self._scope.cancel()

    async def _receive(self, conversation: Conversation) -> None:
        while True:
            message = await self.websocket.receive()
            if message["type"] != "websocket.receive":
                return self.end(1000, GONE)
            said = message.get("text")
            said = message.get("bytes") or b"" if said is None else said
            size = len(said)
            if size > self.config.max_message_bytes:
                return self.end(TOO_BIG, f"expected messages of at most {self.config.max_message_bytes} bytes")
            self.metrics.messages.labels("in").inc()
            self.metrics.bytes.labels("in").inc(size)
            self._last_message = time.monotonic()
            heard = conversation.heard_s
            conversation.receive(said)
            await self._throttle(conversation.heard_s - heard)

    async def _throttle(self, sound_s: float) -> None:
        """Read no faster than allowed; what is not read waits at the client, nothing is lost."""
        now = time.monotonic()
        wait_s = max(self._messages.take(1, now), self._sound.take(sound_s, now))
        if wait_s > 0:
            self.metrics.throttled.inc()
            await anyio.sleep(wait_s)

    async def _listen(self, conversation: Conversation) -> None:
        async for event in conversation.session.events():
            self._measure(event)
            conversation.tell(event)
            if self._ending is not None:  # a busy engine wakes this task again before anyio can cancel it
                return
        self.end(*self.if_ended)

    def _measure(self, event: SessionEvent) -> None:
        if isinstance(event, ReplyStarted):
            self._reply_started = time.monotonic()
        elif isinstance(event, ReplyDone):
            self.metrics.replied(event.reply, time.monotonic() - self._reply_started)
            latency = {name: round(ms, 1) for name, ms in event.reply.latency_ms.items()}
            logger.info("reply %s", event.reply.status, extra={**self._about, "latency_ms": latency})

    async def _send(self) -> None:
        try:
            while True:
                await self._outbox.wait()
                while (message := self._outbox.take()) is not None:
                    await self._deliver(message)
        except WebSocketDisconnect:
            self.end(1000, GONE)

    async def _deliver(self, message: str) -> None:
        await self.websocket.send_text(message)
        self.metrics.messages.labels("out").inc()
        self.metrics.bytes.labels("out").inc(len(message))

    async def _watch(self, conversation: Conversation) -> None:
        """Both deadlines: of the session, and of a client that says nothing."""
        while True:
            now = time.monotonic()
            over, idle = self._started + self.config.max_session_s, self._last_message + self.config.idle_s
            if now >= over:
                text = f"a session lasts at most {self.config.max_session_s:g} s; connect again to go on"
                conversation.fail(ProtocolError(text, "session_expired"))
                return self.end(POLICY, "session expired")
            if now >= idle:
                text = f"no message for {self.config.idle_s:g} s; connect again to go on"
                conversation.fail(ProtocolError(text, "session_idle"))
                return self.end(POLICY, "session idle")
            await anyio.sleep(min(over, idle) - now)

    async def _farewell(self) -> None:
        """What is left to say, and the closing frame, if the client still takes them."""
        code, reason = self._ending or (BROKEN, "internal error")
        with anyio.move_on_after(FAREWELL_S):
            try:
                while reason != GONE and (message := self._outbox.take()) is not None:
                    await self._deliver(message)
                if self.websocket.client_state is WebSocketState.CONNECTED:
                    await self.websocket.close(code, reason)
            except (WebSocketDisconnect, RuntimeError):  # gone in the meantime
                return
