"""The web application, built from its parts. Holds no global state; the engine comes from outside."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from icebreaker.engine.interface import EngineLike
from icebreaker.engine.store import SessionStore
from icebreaker.server.config import ServerConfig
from icebreaker.server.gate import Gate, Refusal
from icebreaker.server.metrics import Metrics
from icebreaker.server.page import page_routes
from icebreaker.server.realtime import Realtime, refusal_response
from icebreaker.server.records import Records
from icebreaker.server.webrtc import Calls

__all__ = ["create_app"]


Handler = Callable[[Request], Awaitable[Response]]


def guarded(handler: Handler, gate: Gate) -> Handler:
    """The same handler, for those whom the gate lets in."""

    async def answer(request: Request) -> Response:
        try:
            gate.admit(request)
        except Refusal as refusal:
            return refusal_response(refusal)
        return await handler(request)

    return answer


def create_app(engine: EngineLike, config: ServerConfig | None = None, store: SessionStore | None = None) -> Starlette:
    """The Realtime endpoint, models, health, metrics and the web page, over one engine.

    ``store`` is the engine's, if it has one: how sessions are led is kept beside what was said in them.
    ``app.state.realtime`` is the endpoint, with its ``drain``.
    """
    config = config or ServerConfig()
    gate, metrics = Gate(config), Metrics(engine)
    realtime = Realtime(engine, config, gate, metrics, Records(store))

    async def models(request: Request) -> Response:
        card = {"id": engine.model_name, "object": "model", "created": 0, "owned_by": "icebreaker"}
        return JSONResponse({"object": "list", "data": [card]})

    async def health(request: Request) -> Response:
        stats = engine.stats()
        return JSONResponse({"status": "ok", "sessions": stats.sessions, "speaking": stats.speaking})

    async def ready(request: Request) -> Response:
        if realtime.draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ready", "model": engine.model_name})

    async def figures(request: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    routes: list[BaseRoute] = [
        WebSocketRoute("/v1/realtime", realtime.serve),
        Route("/v1/models", guarded(models, gate)),
        Route("/metrics", guarded(figures, gate)),
        Route("/health", health),
        Route("/ready", ready),
        *Calls(realtime).routes(),
    ]
    if config.static is not None and config.static.is_dir():
        routes += page_routes(config.static)
    app = Starlette(routes=routes)
    app.state.realtime = realtime
    return app
