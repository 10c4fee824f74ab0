"""The web page: static files under strict headers. Knows nothing of sessions, keys or models."""

import re
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["page_routes"]

STATIC = Path(__file__).parent / "static"
HOST = re.compile(r"[\w.\-]+(:\d{1,5})?|\[[\da-fA-F:.]+\](:\d{1,5})?", re.ASCII)
HEADERS = {
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # kept, but asked about: a new version of the server brings a new page
}


def page_routes(static: Path = STATIC) -> list[BaseRoute]:
    """``/`` and ``/static``, for an application to take in."""
    files = StaticFiles(directory=static)
    index = StaticFiles(directory=static, html=True)
    return [Route("/", _Guarded(index)), Mount("/static", _Guarded(files))]


def content_policy(host: str) -> str:
    """What the page may load: its own files, and its own server's sockets, nothing else.

    Args:
        host: the ``Host`` header; older browsers do not count a socket to it as ``'self'``.
    """
    sockets = f" ws://{host} wss://{host}" if HOST.fullmatch(host) else ""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{sockets}; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Guarded:
    """An application whose every answer carries the headers of the page."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = MutableHeaders(raw=scope["headers"]).get("host", "")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = content_policy(host)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_guarded)
