"""What idle conversations cost: processor time and memory of a server that holds many and hears nothing.

python benchmarks/serve_idle.py [MODEL [SESSIONS [SECONDS]]]
"""

import asyncio
import os
import re
import subprocess
import sys
import time

from websockets.asyncio.client import connect

PAGE_BYTES, TICKS_PER_S = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


def used(pid: int) -> tuple[float, float]:
    """Seconds of processor time so far, and resident MB."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S, int(fields[21]) * PAGE_BYTES / 1e6


async def hold(url: str, sessions: int, seconds: float, pid: int) -> None:
    _, before_mb = used(pid)
    sockets = await asyncio.gather(*(connect(url, open_timeout=120) for _ in range(sessions)))
    for socket in sockets:
        await socket.recv()
    await asyncio.sleep(2)
    start_s, held_mb = used(pid)
    began = time.monotonic()
    await asyncio.sleep(seconds)
    percent = 100 * (used(pid)[0] - start_s) / (time.monotonic() - began)
    print(f"| {sessions} | {percent:.1f} % of a core | {(held_mb - before_mb) * 1000 / sessions:.0f} kB each |")
    for socket in sockets:
        await socket.close()


def main(model: str = "scripted", sessions: int = 100, seconds: float = 20) -> None:
    command = [sys.executable, "-m", "icebreaker", "serve", "--model", model, "--port", "0", "--max-sessions", "500"]
    with subprocess.Popen([*command, "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        line = b""
        while b"WebSocket" not in line:
            line = server.stdout.readline()
        port = int(re.search(rb":(\d+)/", line)[1])
        time.sleep(2)
        print("| idle sessions | processor | memory |\n| --- | --- | --- |")
        asyncio.run(hold(f"ws://127.0.0.1:{port}/v1/realtime", int(sessions), float(seconds), server.pid))
        server.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
