"""uvicorn around the application: limits, TLS, and an end that lets replies end. Knows nothing of the protocol."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from icebreaker.engine.interface import EngineLike
from icebreaker.engine.store import SessionStore
from icebreaker.errors import ConfigError
from icebreaker.server.app import create_app
from icebreaker.server.config import ServerConfig
from icebreaker.server.sockets import patient_http, patient_websocket

__all__ = ["RealtimeServer", "bind", "run", "uvicorn_config"]

logger = logging.getLogger(__name__)

PING_S = 20.0  # between pings, and until an answer: a peer that is gone is noticed within twice that
LAST_S = 5  # for what is still open after the drain


def uvicorn_config(
    app: Starlette, config: ServerConfig, certificate: tuple[Path, Path] | None = None
) -> uvicorn.Config:
    """How uvicorn serves ``app``, over TLS with a ``certificate`` and its key.

    Our limits; no compression: sound hardly shrinks, and it takes memory for every connection.
    uvicorn's own lines are kept to warnings: they would tell the ids by which sessions are resumed.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    return uvicorn.Config(
        app, http=patient_http(config), ws=patient_websocket(), log_config=None, access_log=False,
        ws_max_size=config.max_message_bytes, ws_ping_interval=PING_S, ws_ping_timeout=PING_S,
        ws_per_message_deflate=False, timeout_graceful_shutdown=LAST_S, server_header=False, lifespan="off",
        ssl_certfile=certificate and certificate[0], ssl_keyfile=certificate and certificate[1],
    )  # fmt: skip


class RealtimeServer(uvicorn.Server):
    """A server that on SIGTERM or SIGINT first drains, answering ``/ready`` with 503, and then stops.

    A second signal stops at once.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None
        self._asked = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        if self._asked:
            self.should_exit = True
        self._asked = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if self._asked and self._draining is None:
            self._draining = asyncio.create_task(self._end())
        return await super().on_tick(counter)

    async def _end(self) -> None:
        try:
            await self._drain()
        finally:
            self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A socket that is ours, not yet listening: who connects before the model is loaded is refused, not left waiting.

    Raises:
        ConfigError: the address is taken, forbidden, or not of this machine.
    """
    bound = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        if bound is not None:
            bound.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}; try another --port") from error
    return bound


async def run(
    engine: EngineLike, config: ServerConfig, bound: socket.socket, certificate: tuple[Path, Path] | None = None,
    store: SessionStore | None = None,
) -> None:  # fmt: skip
    """Serve until a signal comes."""
    app = create_app(engine, config, store)
    try:
        uvicorn_settings = uvicorn_config(app, config, certificate)
        uvicorn_settings.load()
    except OSError as error:  # of TLS: a wrong key, no certificate at all
        raise ConfigError(f"cannot use this certificate and key: {error}") from error
    server = RealtimeServer(uvicorn_settings, app.state.realtime.drain)
    await server.serve(sockets=[bound])
