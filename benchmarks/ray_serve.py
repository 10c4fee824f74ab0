"""What a frame costs through Ray Serve's proxy, against a server of one process: round trips and CPU time.

    python benchmarks/ray_serve.py [--frames 500]

Needs icebreaker-speech[dist]. A client sends 20 ms of sound and asks for the buffer to be cleared; the answer to that
ends the round trip. CPU time is that of every server process: of one, or of proxy and replica. No model runs.
"""

import argparse
import base64
import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from websockets.sync.client import connect

from icebreaker.client.own_server import own_server

FRAME = base64.b64encode(bytes(2 * 480)).decode()  # 20 ms at 24 kHz
APPEND = json.dumps({"type": "input_audio_buffer.append", "audio": FRAME})
CLEAR = json.dumps({"type": "input_audio_buffer.clear"})
WARM = 50  # frames that are not counted
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MARK = "ICEBREAKER_BENCH"


def round_trips_ms(url: str, frames: int, cpu_s: Callable[[], float]) -> tuple[list[float], float]:
    """Time of each round trip, and CPU milliseconds of the server for each."""
    with connect(url, open_timeout=60) as websocket:
        websocket.recv()
        times, before = [], 0.0
        for number in range(-WARM, frames):
            if number == 0:
                before = cpu_s()
            start = time.perf_counter()
            websocket.send(APPEND)
            websocket.send(CLEAR)
            websocket.recv(timeout=60)
            times.append(1000 * (time.perf_counter() - start))
        return times[WARM:], 1000 * (cpu_s() - before) / frames


def cpu_of(pids: list[int]) -> float:
    """User and system time so far, in seconds."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS_PER_S


@contextlib.contextmanager
def on_uvicorn() -> Iterator[tuple[str, list[int]]]:
    with own_server(["--model", "scripted"]) as server:
        yield f"{server.url}/v1/realtime", [server.pid]


@contextlib.contextmanager
def on_ray() -> Iterator[tuple[str, list[int]]]:
    from icebreaker.cluster.app import deploy, stop
    from icebreaker.cluster.plan import EnginePlan, ServePlan

    os.environ[MARK] = uuid.uuid4().hex
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    deploy(ServePlan(engine=EnginePlan(model="scripted")), "127.0.0.1", port)
    try:
        yield f"ws://127.0.0.1:{port}/v1/realtime", ours("ServeReplica", "ProxyActor")
    finally:
        stop()


def ours(*names: str) -> list[int]:
    """Processes of our cluster whose title holds one of ``names``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            titled = any(name in (path / "cmdline").read_text() for name in names)
            found += [int(path.name)] if titled and os.environ[MARK] in (path / "environ").read_text() else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=500)
    frames = parser.parse_args().frames
    servers = {"one process": on_uvicorn}
    if find_spec("ray") is not None:
        servers["Ray Serve"] = on_ray
    print("| server | p50 ms | p95 ms | CPU ms a frame |\n| --- | --- | --- | --- |")
    for name, serving in servers.items():
        with serving() as (url, pids):
            times, cpu_ms = round_trips_ms(url, frames, lambda pids=pids: cpu_of(pids))
        print(
            f"| {name} | {np.percentile(times, 50):.2f} | {np.percentile(times, 95):.2f} | {cpu_ms:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
