"""A real HTTP server in a thread, for what talks to LLM and TTS endpoints."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Handler = Callable[[dict[str, Any], int], Response]  # request body and its number, from 0


def completion(text: str) -> Response:
    return JSONResponse({"choices": [{"message": {"role": "assistant", "content": text}}]})


@contextlib.contextmanager
def serve(handle: Handler) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answer every POST with ``handle``; yields the address and the list of requests seen."""
    seen: list[dict[str, Any]] = []
    lock = threading.Lock()

    async def answer(request: Request) -> Response:
        body = {**await request.json(), "_path": request.url.path, "_key": request.headers.get("authorization")}
        with lock:
            seen.append(body)
            number = len(seen) - 1
        return handle(body, number)

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
