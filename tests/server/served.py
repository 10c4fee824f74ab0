"""A server over a real socket in a thread of this process, and a plain WebSocket client that keeps what it hears."""

import asyncio
import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

from icebreaker.server.app import create_app
from icebreaker.server.config import ServerConfig
from icebreaker.server.run import RealtimeServer, uvicorn_config

JSON = dict[str, Any]
RATE = 24_000
PATIENCE_S = 10.0


@contextlib.contextmanager
def serving(
    engine_factory: Callable[[], Any], *, certificate: tuple[Path, Path] | None = None, **config: Any
) -> Iterator["Served"]:
    """Serve until left; the engine is made inside the server's event loop."""
    served = Served(engine_factory, ServerConfig(**{"static": None, **config}), certificate)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    assert served.ready.wait(PATIENCE_S)
    try:
        yield served
    finally:
        served.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the server did not stop"
        if served.error is not None:
            raise served.error


class Served:
    def __init__(
        self, engine_factory: Callable[[], Any], config: ServerConfig, certificate: tuple[Path, Path] | None
    ) -> None:
        self.factory, self.config, self.certificate = engine_factory, config, certificate
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.ready = threading.Event()
        self.error: BaseException | None = None
        self.server: RealtimeServer

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/realtime?model=any"

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.error = error
            self.ready.set()

    async def _serve(self) -> None:
        self.engine = self.factory()
        self.app = create_app(self.engine, self.config)
        self.server = RealtimeServer(
            uvicorn_config(self.app, self.config, self.certificate), self.app.state.realtime.drain
        )
        self.loop = asyncio.get_running_loop()
        self.ready.set()
        await self.server.serve(sockets=[self.socket])

    def stop(self) -> None:
        if self.error is None:
            self.loop.call_soon_threadsafe(self.server.handle_exit, 15, None)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run in the server's loop."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE_S)

    @contextlib.contextmanager
    def talk(self, **kwargs: Any) -> Iterator["Talk"]:
        url = kwargs.pop("url", self.url)
        with connect(url, open_timeout=PATIENCE_S, close_timeout=1, max_size=None, **kwargs) as websocket:
            yield Talk(websocket)


class Talk:
    """One client."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.socket = websocket
        self.heard: list[JSON] = []

    def say(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def next(self) -> JSON:
        event: JSON = json.loads(self.socket.recv(timeout=PATIENCE_S))
        self.heard.append(event)
        return event

    def until(self, *kinds: str) -> JSON:
        stop = time.monotonic() + PATIENCE_S
        while time.monotonic() < stop:
            event = self.next()
            if event["type"] in kinds:
                return event
        raise AssertionError(f"no {kinds} in {[each['type'] for each in self.heard]}")

    def speak(self, waveform: np.ndarray, piece_ms: int = 100) -> None:
        samples = RATE * piece_ms // 1000
        for start in range(0, len(waveform), samples):
            self.say("input_audio_buffer.append", audio=b64(waveform[start : start + samples]))

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.heard]


def b64(waveform: np.ndarray) -> str:
    return base64.b64encode((waveform * 32767).astype("<i2").tobytes()).decode()


def tone(ms: int, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(np.arange(rate * ms // 1000) / 9)).astype(np.float32)


def silence(ms: int, rate: int = RATE) -> np.ndarray:
    return np.zeros(rate * ms // 1000, np.float32)


def utterance(ms: int = 400) -> np.ndarray:
    """Speech, and the silence that ends a turn."""
    return np.concatenate([silence(100), tone(ms), silence(700)])
