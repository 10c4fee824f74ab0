import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from icebreaker.cli import app
from icebreaker.client.own_server import own_server
from icebreaker.errors import ServerError


def test_a_server_of_our_own_is_ready_and_ends(tmp_path: Path) -> None:
    with own_server(["--model", "scripted"]) as server:
        with urllib.request.urlopen(server.url.replace("ws", "http", 1) + "/ready") as answer:
            assert json.load(answer)["status"] == "ready"
        memory = server.memory_mib()
        assert memory is None or memory > 10
    assert server.memory_mib() is None or not Path(f"/proc/{server.pid}/cmdline").read_text()


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(ServerError, match="a server of our own ended with 2"), own_server(["--no-such-option"]):
        pass


def test_bench_starts_its_own(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "q.wav", 0.4 * np.sin(np.arange(8000) / 9), 16_000)
    words = ["bench", "serve", "--model", "scripted", "--sessions", "2", "--minutes", "0.01", "--exchanges", "1"]
    result = CliRunner().invoke(app, [*words, "--questions", str(tmp_path / "q.wav"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "load.json").read_text())
    assert report["figures"]["conversations"] >= 1
    assert report["figures"]["unanswered"] == 0
    assert "before" in report["measured_with"]["memory, MiB"]
