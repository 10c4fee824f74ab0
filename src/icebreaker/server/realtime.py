"""``/v1/realtime``: lets a WebSocket in or says why not, and keeps what a client needs to come back."""

import logging
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import anyio
import anyio.to_thread
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from icebreaker.engine.interface import EngineLike, SessionLike
from icebreaker.errors import AdmissionError, SessionNotFound
from icebreaker.server.config import ServerConfig
from icebreaker.server.conversation import Conversation
from icebreaker.server.events import Stamp
from icebreaker.server.fields import JSON
from icebreaker.server.gate import PROTOCOL, Gate, Refusal, offered_protocols
from icebreaker.server.link import GOING_AWAY, Link
from icebreaker.server.logs import short_id
from icebreaker.server.metrics import Metrics
from icebreaker.server.records import Left, Records
from icebreaker.server.settings import Settings

__all__ = ["Realtime", "refusal_response"]

logger = logging.getLogger(__name__)

TRY_AGAIN_LATER, NOT_FOUND = 1013, 4404  # closing codes
EXTENSIONS, PLAYBACK_HOLD = b"x-icebreaker-extensions", b"playback_hold"  # what our own clients may ask for


class Realtime:
    """The endpoint and all its open conversations."""

    def __init__(
        self, engine: EngineLike, config: ServerConfig, gate: Gate, metrics: Metrics, records: Records | None = None
    ) -> None:
        self.engine, self.config, self.gate, self.metrics = engine, config, gate, metrics
        self.records = records or Records()
        self.draining = False
        self.links: set[Link] = set()

    async def serve(self, websocket: WebSocket) -> None:
        """One connection."""
        async with AsyncExitStack() as stack:
            try:
                key = self.gate.admit(websocket)
                left = await self.find(websocket, key)
                session = await self.enter(stack, left)
            except Refusal as refusal:
                await self._refuse(websocket, refusal)
                return
            await self._accept(websocket, session)
            await self._converse(websocket, session, replace(left[1], key=key))

    async def drain(self) -> None:
        """Let nobody in, let replies end, then close every conversation."""
        self.draining = True
        logger.info("draining %d conversations", len(self.links))
        for link in self.links:
            link.if_ended = (GOING_AWAY, "the server is shutting down")
        await self.engine.drain(self.config.drain_s)
        with anyio.move_on_after(5):
            while self.links:
                await anyio.sleep(0.02)
        await anyio.to_thread.run_sync(self.records.close)

    async def find(self, connection: HTTPConnection, key: bytes) -> tuple[str | None, Left]:
        """Which session is to be resumed, and how it was led; a new one has the server's defaults.

        Raises:
            Refusal: there is no such session, or it is somebody else's.
        """
        new = Left(Settings(instructions=self.config.instructions), key)
        session_id = connection.query_params.get("session_id")
        named = connection.headers.get("x-session-id", "") if session_id is None else session_id
        left = await self.records.find(named) if named else None
        if session_id is None and left is None:  # none of ours: what a router of connections goes by
            return None, new
        session_id, left = named, left or new
        if left.key != key:
            raise _not_found(session_id)
        settings = replace(left.settings, playback_hold=False)  # whoever comes now may be another client
        return session_id, replace(left, settings=settings)

    async def enter(self, stack: AsyncExitStack, left: tuple[str | None, Left]) -> SessionLike:
        """The engine's side of a session that ``find`` found, until ``stack`` is left.

        Raises:
            Refusal: there is no room, or the session has ended in the meantime.
        """
        session_id, how = left
        try:
            if self.draining:
                raise AdmissionError("the server is shutting down; try another one", 30.0)
            return await stack.enter_async_context(self.engine.session(how.settings.config(), resume=session_id))
        except AdmissionError as error:
            raise Refusal(503, "server_full", str(error), error.retry_after_s) from error
        except SessionNotFound as error:
            self.records.forget(session_id or "")
            raise _not_found(session_id or "") from error

    async def _accept(self, websocket: WebSocket, session: SessionLike) -> None:
        chosen = PROTOCOL if PROTOCOL in offered_protocols(websocket) else None
        headers = [(b"x-session-id", session.id.encode()), (EXTENSIONS, PLAYBACK_HOLD)]
        await websocket.accept(subprotocol=chosen, headers=headers)

    async def _converse(self, websocket: WebSocket, session: SessionLike, left: Left) -> None:
        link = Link(websocket, self.config, self.metrics)
        conversation = Conversation(
            session, left.settings, link.say, sample_rate=self.engine.sample_rate, model=self.engine.model_name,
            expires_at=int(time.time() + self.config.max_session_s), max_uncommitted_s=self.config.max_uncommitted_s,
            updated=lambda settings: self.records.keep(session.id, replace(left, settings=settings)),
        )  # fmt: skip
        self.links.add(link)
        self.records.keep(session.id, left)
        about = {"session": short_id(session.id)}
        logger.info("connected", extra={**about, "client": websocket.client.host if websocket.client else ""})
        self.metrics.connections.inc()
        reason = "internal error"
        try:
            reason = await link.run(conversation, about)
        except Exception:  # our own bug: this conversation ends, the server goes on
            logger.exception("internal error", extra=about)
        finally:
            self.links.discard(link)
            self.metrics.connections.dec()
            self.metrics.closed.labels(reason).inc()
            logger.info("closed: %s", reason, extra={**about, "client_errors": conversation.errors})

    async def _refuse(self, websocket: WebSocket, refusal: Refusal) -> None:
        self.metrics.refusals.labels(refusal.code).inc()
        logger.info("refused: %s", refusal.code, extra={"status": refusal.status})
        if refusal.status in (404, 503) and "origin" in websocket.headers:
            await _refuse_page(websocket, refusal)
        else:
            await websocket.send_denial_response(refusal_response(refusal))


async def _refuse_page(websocket: WebSocket, refusal: Refusal) -> None:
    """A web page never sees the status of a refused WebSocket, so it is told in an event and a closing code."""
    chosen = PROTOCOL if PROTOCOL in offered_protocols(websocket) else None
    await websocket.accept(subprotocol=chosen)
    await websocket.send_json(Stamp()("error", error=_told(refusal)))
    await websocket.close(NOT_FOUND if refusal.status == 404 else TRY_AGAIN_LATER, refusal.code)


def refusal_response(refusal: Refusal) -> JSONResponse:
    """The same refusal before the upgrade, and for plain requests."""
    headers = {"www-authenticate": "Bearer"} if refusal.status == 401 else {}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(round(refusal.retry_after_s))
    return JSONResponse({"error": _told(refusal)}, refusal.status, headers)


def _told(refusal: Refusal) -> JSON:
    kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
    return {"type": kind, "code": refusal.code, "message": str(refusal), "param": None, "event_id": None}


def _not_found(session_id: str) -> Refusal:
    return Refusal(
        404, "session_not_found",
        f"expected a session that was left a short while ago, got {session_id[:60]!r}; leave the id out to start anew",
    )  # fmt: skip
