"""``icebreaker serve`` as a user meets it, where it does not come to serving; see tests/server for where it does."""

import socket
import sys
from pathlib import Path

import pytest

from icebreaker.cli import main


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("cannot listen on 127.0.0.1:{taken}", ["--port", "{taken}"]),
        ("expected a file with an API key a line", ["--api-key-file", "{folder}/none"]),
        ("expected a PEM file for TLS", ["--tls-cert", "{folder}/a", "--tls-key", "{folder}/b"]),
        ("give both --tls-cert and --tls-key", ["--tls-cert", "{folder}/a"]),
        ("cannot keep a self-signed certificate", ["--self-signed"]),
        ("TLS ends at the load balancer", ["--ray", "--tls-cert", "{folder}/file", "--tls-key", "{folder}/file"]),
        ("expected dtype float32, bfloat16, float16, got 'int8'", ["--dtype", "int8"]),
    ],
)
def test_what_cannot_be_served_is_one_line(
    words: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # where no folder can be made
    with socket.create_server(("127.0.0.1", 0)) as held:
        names = {"taken": held.getsockname()[1], "folder": tmp_path}
        filled = [argument.format(**names) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["icebreaker", "serve", "--model", "scripted", "--port", "0", *filled])
        with pytest.raises(SystemExit) as stop:
            main()
    said = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == 2
    assert words.format(**names) in said
    assert "Traceback" not in said
