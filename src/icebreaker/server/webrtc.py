"""``/v1/realtime/calls``: WebRTC offers in, answers out. Imports aiortc (extra ``webrtc``) with the first call."""

import asyncio
import importlib
import json
import logging
import secrets
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, NamedTuple

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from icebreaker.errors import ProtocolError
from icebreaker.server.fields import Fields
from icebreaker.server.gate import Refusal
from icebreaker.server.logs import short_id
from icebreaker.server.realtime import Realtime, refusal_response
from icebreaker.server.records import Left
from icebreaker.server.settings import Settings

__all__ = ["Calls", "has_webrtc"]

logger = logging.getLogger(__name__)

LONGEST_OFFER = 200_000  # bytes; offers of browsers have some 5000


def has_webrtc() -> bool:
    """Whether the extra is installed."""
    return find_spec("aiortc") is not None


class Begun(NamedTuple):
    """A call that was taken: whose it is, and the answer (SDP)."""

    session_id: str
    answer: str


class Calls:
    """All open calls. ``realtime`` has the engine, the limits and the gate, and says when it drains."""

    def __init__(self, realtime: Realtime) -> None:
        self._realtime = realtime
        self.open: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[BaseRoute]:
        """For an application to take in."""
        return [
            Route("/v1/realtime/calls", self.create, methods=["POST"]),
            Route("/v1/realtime/calls/{call_id}/hangup", self.hang_up, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """An offer: ``application/sdp``, or a form with ``sdp`` and ``session`` (JSON). The answer is SDP too.

        A session that was left goes on if it is named, as over a WebSocket: ``?session_id=`` or ``x-session-id``.
        """
        try:
            key = self._realtime.gate.admit(request)
            if not has_webrtc():
                raise Refusal(
                    501, "no_webrtc", "no WebRTC here; on the server: pip install 'icebreaker-speech[webrtc]'"
                )
            offer, asked = await self._read(request)
            session_id, left = await self._realtime.find(request, key)
            if asked is not None:
                left = replace(left, settings=left.settings.updated(asked))
            call_id, begun = await self._begin(offer, session_id, replace(left, key=key))
        except Refusal as refusal:
            self._realtime.metrics.refusals.labels(refusal.code).inc()
            return refusal_response(refusal)
        except ProtocolError as error:
            told = {"type": "invalid_request_error", "code": error.code, "message": str(error), "param": error.param}
            return JSONResponse({"error": told}, 400)
        headers = {"location": f"/v1/realtime/calls/{call_id}", "x-session-id": begun.session_id}
        return Response(begun.answer, 201, headers, media_type="application/sdp")

    async def hang_up(self, request: Request) -> Response:
        """End a call by its id."""
        try:
            self._realtime.gate.admit(request)
            call = self.open.get(request.path_params["call_id"])
            if call is None:
                raise Refusal(404, "call_not_found", "expected the id of a call under way; it is over, or never was")
        except Refusal as refusal:
            return refusal_response(refusal)
        call.end("hung up")
        return Response(status_code=200)

    async def _read(self, request: Request) -> tuple[str, Fields | None]:
        """The offer, and what of the settings is to be otherwise."""
        if int(request.headers.get("content-length") or LONGEST_OFFER + 1) > LONGEST_OFFER:
            raise Refusal(413, "offer_too_long", f"expected an offer of at most {LONGEST_OFFER} bytes, with its length")
        if request.headers.get("content-type", "").startswith("application/sdp"):
            return (await request.body()).decode("utf-8", "replace"), None
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refusal(415, "unsupported_media_type", "expected application/sdp, or multipart/form-data with 'sdp'")
        async with request.form(max_files=2, max_fields=4) as form:
            sdp, session = [await _text(form.get(name)) for name in ("sdp", "session")]
        if not sdp:
            raise ProtocolError("missing sdp: expected the SDP offer", "missing_required_parameter", "sdp")
        return sdp, _object(session) if session else None

    async def _begin(self, offer: str, session_id: str | None, left: Left) -> tuple[str, "Begun"]:
        """Start a call of its own task; its id and the answer, or the refusal that it met."""
        call_id = f"rtc_{secrets.token_hex(16)}"
        answer: asyncio.Future[Begun] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(call_id, offer, session_id, left, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call_id, await answer

    async def _run(
        self, call_id: str, offer: str, session_id: str | None, left: Left, answer: "asyncio.Future[Begun]"
    ) -> None:
        realtime = self._realtime
        try:
            call_type: Any = importlib.import_module("icebreaker.server.webrtc_call").Call
            async with AsyncExitStack() as stack:
                session = await realtime.enter(stack, (session_id, left))
                about = {"session": short_id(session.id)}

                def keep(settings: Settings) -> None:
                    realtime.records.keep(session.id, replace(left, settings=settings))

                call = call_type(realtime.engine, realtime.config, session, left.settings, keep)
                try:
                    answer.set_result(Begun(session.id, await call.answer(offer)))
                except ProtocolError:
                    await call.close()
                    raise
                keep(left.settings)
                self.open[call_id] = call
                realtime.metrics.connections.inc()
                logger.info("call", extra=about)
                await call.run()
                realtime.metrics.closed.labels(call.reason).inc()
                realtime.metrics.client_errors.inc(call.conversation.errors)
                logger.info("closed: %s", call.reason, extra=about)
        except Exception as error:
            if answer.done():
                raise
            answer.set_exception(error)
        finally:
            if self.open.pop(call_id, None) is not None:
                realtime.metrics.connections.dec()


async def _text(value: UploadFile | str | None) -> str:
    """A field of a form, which some clients send as a file."""
    return (await value.read()).decode("utf-8", "replace") if isinstance(value, UploadFile) else value or ""


def _object(text: str) -> Fields:
    try:
        return Fields(json.loads(text), "session")
    except ValueError as error:
        raise ProtocolError(
            f"session: expected JSON, got {text[:40]!r} ({error})", "invalid_json", "session"
        ) from error
