"""uvicorn's protocols with the patience they lack: a request must be whole in time, and a closed socket must go.

Without it, a client that sends a request a letter at a time (slow loris), or one that stops reading, keeps a socket and
its buffers for as long as it likes.
"""

import asyncio
from typing import Any

import h11
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from icebreaker.server.config import ServerConfig

__all__ = ["patient_http", "patient_websocket"]

LINGER_S = 3.0  # from the end of a conversation until its socket is cut


class PatientWebSocket(WebSocketsSansIOProtocol):
    """Cuts the socket if the client has not taken the closing frame some seconds after the end."""

    async def send(self, message: ASGISendEvent) -> None:
        """As uvicorn's; but a whole refusal is a complete handshake, and no error for the log."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done with this connection."""
        super().on_task_complete(task)
        self.loop.call_later(LINGER_S, self.transport.abort)


def patient_websocket() -> type[asyncio.Protocol]:
    """For ``uvicorn.Config(ws=...)``."""
    return PatientWebSocket


def patient_http(config: ServerConfig) -> type[asyncio.Protocol]:
    """For ``uvicorn.Config(http=...)``: at most ``max_sockets``, and ``request_s`` for a request to be whole."""

    class PatientHTTP(H11Protocol):
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > config.max_sockets:
                transport.abort()
            else:
                self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _watch(self) -> None:
            unfinished = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
            if not unfinished or self.transport.get_protocol() is not self:  # the WebSocket has taken over
                self._stop()
            elif self.deadline is None:
                self.deadline = self.loop.call_later(config.request_s, self.transport.abort)

        def _stop(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
            self.deadline = None

    protocol: Any = PatientHTTP
    kind: type[asyncio.Protocol] = protocol
    return kind
