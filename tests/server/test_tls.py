"""Encrypted, with a certificate of the server's own making."""

import ssl
import stat
from pathlib import Path

from served import Talk, serving
from websockets.sync.client import connect

from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.server.tls import self_signed


def test_a_certificate_is_made_once_and_kept(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path / "tls", "192.168.1.7")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = certificate.read_bytes()
    assert self_signed(tmp_path / "tls", "192.168.1.7") == (certificate, key)
    assert certificate.read_bytes() == before
    certificate.write_text("damaged")
    self_signed(tmp_path / "tls", "192.168.1.7")
    assert certificate.read_bytes() not in (before, b"damaged")


def test_a_conversation_over_tls(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(cafile=str(pair[0]))
    with (
        serving(ScriptedEngine, certificate=pair) as served,
        connect(served.url.replace("ws://", "wss://"), ssl=context) as websocket,
    ):
        assert Talk(websocket).next()["type"] == "session.created"
