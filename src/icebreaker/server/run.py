"""uvicorn around the application: limits, TLS, and an end that lets replies end. Knows nothing of the protocol."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from icebreaker.server.config import ServerConfig
from icebreaker.server.sockets import patient_http, patient_websocket

__all__ = ["RealtimeServer", "uvicorn_config"]

logger = logging.getLogger(__name__)

PING_S = 20.0  # between pings, and until an answer: a peer that is gone is noticed within twice that
LAST_S = 5  # for what is still open after the drain


def uvicorn_config(
    app: Starlette, config: ServerConfig, *, host: str = "127.0.0.1", port: int = 8000, certificate: Path | None = None,
    key: Path | None = None,
) -> uvicorn.Config:  # fmt: skip
    """How uvicorn serves ``app``: no compression (sound does not shrink, memory does), our limits, no logs of its own.

    uvicorn's own lines are kept to warnings: they would tell the ids by which sessions are resumed.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    return uvicorn.Config(
        app, host=host, port=port, http=patient_http(config), ws=patient_websocket(), log_config=None, access_log=False,
        ws_max_size=config.max_message_bytes, ws_ping_interval=PING_S, ws_ping_timeout=PING_S,
        ws_per_message_deflate=False, timeout_graceful_shutdown=LAST_S, server_header=False, lifespan="off",
        ssl_certfile=certificate, ssl_keyfile=key,
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
