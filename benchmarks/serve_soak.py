"""Memory of a server over a long time with conversations, barge-ins, and callers whose line breaks.

python benchmarks/serve_soak.py [MINUTES [SESSIONS [MODEL]]]

Some conversations are held as ``icebreaker bench serve`` holds them, each new one on a connection of its own; beside
them a caller connects, says half a question and is cut off, again and again. The memory is that of the whole process;
one that is flat has a slope of about nothing over the second half, after caches have found their size.
"""

import asyncio
import base64
import json
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect

from icebreaker.audio.pcm import load_audio
from icebreaker.client.own_server import OwnServer, own_server
from icebreaker.client.remote import RemoteEngine
from icebreaker.evaluation.load import LoadConfig, Tally, bear_load

QUESTION = Path(__file__).parents[1] / "examples" / "question.wav"
EVERY_S = 10.0
ROOM = "64"  # for those who are away, too, as long as they may come back


async def break_off(url: str) -> None:
    """Connect, speak and vanish, until cancelled; ``broken`` counts."""
    pcm = (load_audio(QUESTION, 24_000)[:24_000] * 32767).astype("<i2").tobytes()
    sound = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})
    while True:
        socket = await connect(f"{url}/v1/realtime", open_timeout=60)
        await socket.recv()
        await socket.send(sound)
        await asyncio.sleep(0.5)
        socket.transport.abort()  # no goodbye, as when a telephone loses its network
        broken.append(time.monotonic())
        await asyncio.sleep(3.0)


broken: list[float] = []


async def watch(server: OwnServer, until: float, memory: list[tuple[float, float]]) -> None:
    """Look at the memory until then: minutes since the start, MiB."""
    began = time.monotonic()
    while time.monotonic() < until:
        await asyncio.sleep(EVERY_S)
        memory.append(((time.monotonic() - began) / 60, server.memory_mib() or 0.0))
        print(f"{memory[-1][0]:6.2f} min  {memory[-1][1]:7.1f} MiB  {len(broken)} broken off", file=sys.stderr)


async def soak(server: OwnServer, minutes: float, sessions: int) -> tuple[Tally, list[tuple[float, float]]]:
    """Conversations and broken lines at once."""
    memory: list[tuple[float, float]] = []
    config = LoadConfig(sessions=sessions, minutes=minutes, exchanges=3, barge_in=0.4)
    breaking = asyncio.create_task(break_off(server.url))
    watching = asyncio.create_task(watch(server, time.monotonic() + 60 * minutes, memory))
    try:
        return await bear_load(RemoteEngine(server.url), [QUESTION], config), memory
    finally:
        breaking.cancel()
        await watching


def main(minutes: float | str = 20, sessions: int | str = 4, model: str = "mini") -> None:
    with own_server(["--model", model, "--threads", "1", "--max-sessions", ROOM]) as server:
        before = server.memory_mib() or 0.0
        tally, memory = asyncio.run(soak(server, float(minutes), int(sessions)))
        time.sleep(65)  # the grace period of those who may come back
        address = server.url.replace("ws://", "http://") + "/metrics"
        with urllib.request.urlopen(address) as answer:
            figures = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
    late = np.array([each for each in memory if each[0] > float(minutes) / 2])
    slope = np.polyfit(late[:, 0], late[:, 1], 1)[0]
    print("| minutes | conversations | questions | stopped replies | broken lines | failures | lost |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    lost = sum(tally.lost.values())
    print(
        f"| {minutes} | {tally.conversations} | {tally.questions} | {len(tally.stop_ms)} | {len(broken)} "
        f"| {tally.failures} | {lost} |\n"
    )
    print("| memory before, MiB | at half time | at the end | slope of the second half, MiB a minute | sessions left |")
    print("| --- | --- | --- | --- | --- |")
    left = float(figures["icebreaker_sessions"])
    print(f"| {before:.0f} | {late[0, 1]:.0f} | {memory[-1][1]:.0f} | {slope:.2f} | {left:.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
