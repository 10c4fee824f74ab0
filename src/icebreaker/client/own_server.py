"""A Realtime server of one's own for the length of a measurement: ``icebreaker serve`` in a process beside."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from icebreaker.errors import ServerError

__all__ = ["OwnServer", "own_server"]

START_S = 120.0  # a large model takes long to load
STOP_S = 20.0
LAST_CHARACTERS = 400  # of what a server that failed had to say


@dataclass(frozen=True)
class OwnServer:
    """Where it is reached, and which process it is."""

    url: str
    pid: int

    def memory_mib(self) -> float | None:
        """Resident memory now; None where the system does not tell."""
        status = Path(f"/proc/{self.pid}/status")
        lines = status.read_text().splitlines() if status.is_file() else []
        found = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
        return int(found[0]) / 1024 if found else None


@contextlib.contextmanager
def own_server(arguments: Sequence[str] = (), *, start_s: float = START_S) -> Iterator[OwnServer]:
    """Run ``icebreaker serve`` with ``arguments`` on a free port until left.

    Raises:
        ServerError: it ends or is not ready in time; says what it said last.
    """
    port = _free_port()
    here = ["--host", "127.0.0.1", "--port", str(port), "--drain-s", "0"]  # nobody is left to hear when it ends
    command = [sys.executable, "-m", "icebreaker", "serve", *here, *arguments]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            _wait(process, port, start_s, said)
            yield OwnServer(f"ws://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, start_s: float, said: IO[bytes]) -> None:
    until = time.monotonic() + start_s
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2):
            return
        time.sleep(0.1)
    said.seek(0)
    last = said.read()[-LAST_CHARACTERS:].decode(errors="replace").strip()
    state = f"ended with {process.returncode}" if process.returncode is not None else f"was not ready in {start_s:g} s"
    raise ServerError(f"a server of our own {state}: {last or 'it said nothing'}; give one with --server")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
