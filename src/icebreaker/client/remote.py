"""A Realtime server as an engine: connects, sends, receives. Knows nothing of what is said or measured."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from icebreaker.client.wire import WIRE_RATE, Wire
from icebreaker.engine.messages import Command, Configure, SessionConfig, SessionEvent
from icebreaker.errors import ServerError

__all__ = ["RemoteEngine", "RemoteSession", "realtime_url"]

LARGEST_MESSAGE = 16 << 20  # bytes
EXTENSIONS = "x-icebreaker-extensions"  # header in which our server names what it knows beyond the protocol
SCHEMES = {"": "ws", "http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def realtime_url(url: str, model: str) -> str:
    """The address of the WebSocket: ``host:8000``, ``http://host/v1`` and a full ``wss://..`` are all understood.

    Raises:
        ServerError: it is no address.
    """
    parts = urlsplit(url if "://" in url else f"//{url}")
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ServerError(f"expected a server such as ws://localhost:8000, got {url!r}")
    path = parts.path.rstrip("/")
    if not path.endswith("/realtime"):
        path = f"{path}/realtime" if path.endswith("/v1") else f"{path}/v1/realtime"
    query = {"model": model, **dict(parse_qsl(parts.query))}
    return urlunsplit((SCHEMES[parts.scheme], parts.netloc, path, urlencode(query), ""))


@dataclass(frozen=True)
class RemoteEngine:
    """Conversations at a server (see ``engine.interface.EngineLike``; it has no ``stats``).

    Attributes:
        url: anything ``realtime_url`` understands.
        api_key: sent as a bearer token, never shown.
        model_name: what the server is asked for; our own server takes any name.
        patience_s: how long a connection, and its first answer, may take.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    model_name: str = "icebreaker"
    patience_s: float = 10.0

    @property
    def sample_rate(self) -> int:
        """Of the answers, in Hz."""
        return WIRE_RATE

    @contextlib.asynccontextmanager
    async def session(self, config: SessionConfig) -> AsyncIterator["RemoteSession"]:
        """Enter a new conversation, led by ``config``.

        Raises:
            ServerError: the server cannot be reached, refuses, or does not answer.
        """
        socket = await self._connect()
        try:
            wire = Wire(_knows_more(socket))
            session = RemoteSession(socket, await self._begin(socket, wire.outgoing(Configure(config=config))), wire)
            sending = asyncio.create_task(session.send_pushed())
            try:
                yield session
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending
        finally:
            await socket.close()

    async def _connect(self) -> ClientConnection:
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        address = realtime_url(self.url, self.model_name)
        try:
            return await connect(
                address, additional_headers=headers, max_size=LARGEST_MESSAGE, compression=None,
                open_timeout=self.patience_s, close_timeout=1,
            )  # fmt: skip
        except InvalidStatus as error:
            said = (error.response.body or b"").decode(errors="replace").strip()[:200]
            raise ServerError(
                f"{self.url}: refused with status {error.response.status_code} {said}".rstrip()
            ) from error
        except (OSError, WebSocketException, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise ServerError(f"{self.url}: expected a Realtime server, cannot connect: {reason}; is it up?") from error

    async def _begin(self, socket: ClientConnection, update: list[dict[str, Any]]) -> str:
        """Ask for a configuration and wait until it is granted; the session's id."""
        try:
            async with asyncio.timeout(self.patience_s):
                created = await _first(socket, "session.created")
                for message in update:
                    await socket.send(json.dumps(message))
                await _first(socket, "session.updated")
        except ConnectionClosed as error:
            raise ServerError(f"{self.url}: closed the connection: {_closing(error)}") from error
        except TimeoutError as error:
            raise ServerError(f"{self.url}: connected, but granted no session in {self.patience_s:g} s") from error
        return str((created.get("session") or {}).get("id", ""))


class RemoteSession:
    """One conversation at a server (see ``engine.interface.SessionLike``)."""

    def __init__(self, socket: ClientConnection, session_id: str, wire: Wire) -> None:
        self.id = session_id
        self._socket, self._wire = socket, wire
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def push(self, command: Command) -> None:
        """Hand over a command; it is sent in order, as soon as the socket takes it."""
        for message in self._wire.outgoing(command):
            self._outbox.put_nowait(message)

    async def events(self) -> AsyncIterator[SessionEvent]:
        """Everything the server says, in order.

        Raises:
            ServerError: the connection was lost, or something came that is no Realtime event.
        """
        try:
            while True:
                events, answers = self._read(await self._socket.recv())
                for answer in answers:
                    self._outbox.put_nowait(answer)
                for event in events:
                    yield event
        except ConnectionClosed as error:
            raise ServerError(f"the server went away in the middle: {_closing(error)}") from error

    async def send_pushed(self) -> None:
        """Send what was pushed until cancelled; the receiving side reports a lost connection."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._socket.send(json.dumps(await self._outbox.get()))

    def _read(self, message: str | bytes) -> tuple[list[SessionEvent], list[dict[str, Any]]]:
        try:
            return self._wire.incoming(_parse(message))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ServerError(f"expected a Realtime event, got {str(message)[:200]!r} ({reason})") from error


def _knows_more(socket: ClientConnection) -> bool:
    """Whether this is a server of ours; others might refuse what they do not know."""
    return socket.response is not None and "playback_hold" in socket.response.headers.get(EXTENSIONS, "")


async def _first(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Wait for one kind of event.

    Raises:
        ServerError: an error came instead.
    """
    while True:
        try:
            event = _parse(await socket.recv())
        except ValueError as error:
            raise ServerError(f"expected {kind}, got no JSON object: {error}; is this a Realtime server?") from error
        if event.get("type") == kind:
            return event
        if event.get("type") == "error":
            raise ServerError(f"expected {kind}, got an error: {(event.get('error') or {}).get('message')}")


def _parse(message: str | bytes) -> dict[str, Any]:
    event = json.loads(message)
    if not isinstance(event, dict):
        raise ValueError(f"expected an object, got {type(event).__name__}")
    return event


def _closing(error: ConnectionClosed) -> str:
    close = error.rcvd
    return f"code {close.code} {close.reason}".strip() if close is not None else "no closing frame"
