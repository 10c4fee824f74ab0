"""Who gets in, how much of what, and how long: keys, origins, sizes, rates, times, slow and greedy clients."""

import base64
import json
import socket
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from served import Served, serving, tone, utterance
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.errors import ConfigError
from icebreaker.server.gate import read_keys

KEYS = ("first-key", "second-key")
UPGRADE = (
    "GET /v1/realtime HTTP/1.1\r\nHost: {host}\r\n{more}Upgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n\r\n"
)


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def refused(url: str, **kwargs: object) -> tuple[int, dict]:
    """Status and error of a WebSocket that is not let in."""
    with pytest.raises(InvalidStatus) as refusal, connect(url, **kwargs):
        pass
    response = refusal.value.response
    return response.status_code, json.loads(response.body)["error"]


@pytest.fixture(scope="module")
def locked():
    with serving(ScriptedEngine, api_keys=KEYS, origins=("https://friend.example",), wrong_keys_per_minute=1000) as it:
        yield it


@pytest.mark.parametrize("key", KEYS)
def test_the_right_key_enters(locked: Served, key: str) -> None:
    with locked.talk(additional_headers={"Authorization": f"Bearer {key}"}) as talk:
        assert talk.next()["type"] == "session.created"


@pytest.mark.parametrize("headers", [
    {}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}, {"Authorization": "Basic first-key"},
    {"Authorization": "Bearer first-key2"}, {"Authorization": "Bearer first-ke"},
])  # fmt: skip
def test_a_wrong_key_is_401_before_the_upgrade(locked: Served, headers: dict[str, str]) -> None:
    status, error = refused(locked.url, additional_headers=headers)
    assert (status, error["code"]) == (401, "invalid_api_key")
    assert "expected an API key" in error["message"]


def test_a_page_brings_its_key_as_a_subprotocol(locked: Served) -> None:
    offered = ["realtime", "openai-insecure-api-key.second-key"]
    with locked.talk(subprotocols=offered, origin="https://friend.example") as talk:
        assert talk.socket.subprotocol == "realtime"
        assert talk.next()["type"] == "session.created"
    assert refused(locked.url, subprotocols=["realtime", "openai-insecure-api-key.no"])[0] == 401


def test_pages_from_elsewhere_stay_out(locked: Served) -> None:
    key = {"Authorization": "Bearer first-key"}
    status, error = refused(locked.url, additional_headers=key, origin="https://evil.example")
    assert (status, error["code"]) == (403, "origin_not_allowed")
    with locked.talk(additional_headers=key, origin=locked.http) as talk:
        assert talk.next()["type"] == "session.created"


def test_without_keys_a_name_pointed_at_this_machine_is_no_own_page() -> None:
    with serving(ScriptedEngine) as served:
        with served.talk(origin=served.http) as talk:
            assert talk.next()["type"] == "session.created"
        host = f"rebound.example:{served.port}"
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.sendall(UPGRADE.format(host=host, more=f"Origin: http://{host}\r\n").encode())
            assert raw.recv(100).startswith(b"HTTP/1.1 403")


def test_requests_need_the_key_but_for_health(locked: Served) -> None:
    for path, status in (("/v1/models", 401), ("/metrics", 401), ("/health", 200), ("/ready", 200)):
        assert get(locked.http + path)[0] == status, path
    key = {"Authorization": "Bearer first-key"}
    assert json.loads(get(f"{locked.http}/v1/models", **key)[1])["data"][0]["id"] == "scripted"
    assert "icebreaker_sessions" in get(f"{locked.http}/metrics", **key)[1]


def test_guessing_is_slowed_down() -> None:
    with serving(ScriptedEngine, api_keys=KEYS, wrong_keys_per_minute=3) as served:
        wrong = {"Authorization": "Bearer guess"}
        assert [refused(served.url, additional_headers=wrong)[0] for _ in range(4)] == [401, 401, 401, 429]


def test_keys_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\n\n one \ntwo\n")
    assert read_keys(path) == ("one", "two")
    path.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="expected an API key a line, got none"):
        read_keys(path)
    with pytest.raises(ConfigError, match="cannot read it"):
        read_keys(tmp_path / "none")


def test_a_full_engine_refuses_clearly() -> None:
    with serving(lambda: ScriptedEngine(max_sessions=1)) as served, served.talk() as talk:
        talk.next()
        status, error = refused(served.url)
        assert (status, error["code"], error["type"]) == (503, "server_full", "server_error")
        assert "all 1 sessions are taken" in error["message"]
        with served.talk(origin=served.http) as page:  # a page cannot see the status
            assert page.next()["error"]["code"] == "server_full"
            with pytest.raises(ConnectionClosed) as closed:
                page.next()
            assert closed.value.rcvd.code == 1013
        assert 'icebreaker_refusals_total{code="server_full"} 2.0' in get(f"{served.http}/metrics")[1]


def test_messages_have_a_largest_size() -> None:
    with serving(ScriptedEngine, max_message_bytes=10_000) as served, served.talk() as talk:
        talk.next()
        talk.say("input_audio_buffer.append", audio="A" * 20_000)
        with pytest.raises(ConnectionClosed) as closed:
            talk.next()
        assert closed.value.rcvd.code == 1009
    assert served.engine.stats().sessions == 0


def test_a_flood_waits_and_loses_nothing() -> None:
    with serving(ScriptedEngine, messages_per_s=100, message_burst=20) as served, served.talk() as talk:
        talk.next()
        started = time.monotonic()
        for count in range(70):
            talk.say("conversation.item.retrieve", item_id="x", event_id=str(count))
        answers = [talk.until("error")["error"]["event_id"] for _ in range(70)]
        assert answers == [str(count) for count in range(70)]
        assert time.monotonic() - started >= 0.45  # 50 beyond the burst, at 100 a second
        assert "icebreaker_throttled_total 0.0" not in get(f"{served.http}/metrics")[1]


def test_sound_is_not_read_much_faster_than_it_lasts() -> None:
    with serving(ScriptedEngine, audio_speed=20, audio_burst_s=1) as served, served.talk() as talk:
        started = time.monotonic()
        talk.speak(tone(10_000), piece_ms=1000)
        talk.say("conversation.item.retrieve", item_id="x")
        talk.until("error")
        assert time.monotonic() - started >= 0.4  # 9 s beyond the burst, twenty times as fast


def test_a_client_that_leads_turns_must_commit() -> None:
    with serving(ScriptedEngine, max_uncommitted_s=1) as served, served.talk() as talk:
        talk.say("session.update", session={"audio": {"input": {"turn_detection": None}}})
        talk.speak(tone(1200), piece_ms=400)
        error = talk.until("error")["error"]
        assert error["code"] == "input_audio_buffer_full"
        talk.say("input_audio_buffer.commit")
        talk.until("input_audio_buffer.committed")
        talk.heard.clear()
        talk.speak(tone(800), piece_ms=400)
        talk.say("input_audio_buffer.commit")
        talk.until("input_audio_buffer.committed")
        assert "error" not in talk.kinds


@pytest.mark.parametrize(
    ("limit", "code"), [({"max_session_s": 0.3}, "session_expired"), ({"idle_s": 0.3}, "session_idle")]
)
def test_time_limits_say_so_and_close(limit: dict[str, float], code: str) -> None:
    with serving(ScriptedEngine, **limit) as served, served.talk() as talk:
        assert talk.until("error")["error"]["code"] == code
        with pytest.raises(ConnectionClosed) as closed:
            talk.next()
        assert closed.value.rcvd.code == 1008


def test_a_client_that_does_not_read_is_let_go() -> None:
    def endless() -> ScriptedEngine:
        return ScriptedEngine(lambda items, config: "word " * 4000)

    def open_sockets() -> int:
        return served.call(lambda: len(served.server.server_state.connections))

    with (
        serving(endless, max_outbox_bytes=20_000) as served,
        socket.create_connection(("127.0.0.1", served.port)) as raw,
    ):
        raw.sendall(UPGRADE.format(host="localhost", more="").encode())
        assert raw.recv(12) == b"HTTP/1.1 101"
        message = b'{"type":"response.create"}'
        raw.sendall(bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message)
        stop = time.monotonic() + 20
        while (served.engine.stats().sessions or open_sockets()) and time.monotonic() < stop:
            time.sleep(0.05)
        assert served.engine.stats().sessions == 0
        assert open_sockets() == 0


def test_a_request_must_be_whole_in_time() -> None:
    with serving(ScriptedEngine, request_s=0.5) as served:
        for beginning in (
            b"",
            b"GET /v1/real",
            b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nslow",
        ):
            with socket.create_connection(("127.0.0.1", served.port)) as raw:
                raw.sendall(beginning)
                raw.settimeout(5)
                started = time.monotonic()
                with suppress(ConnectionResetError):
                    while raw.recv(1000):
                        pass
                assert time.monotonic() - started < 4
        with served.talk() as talk:  # a conversation is no slow request
            talk.next()
            time.sleep(0.8)
            talk.speak(utterance())
            talk.until("response.done")


def test_sockets_are_limited() -> None:
    with serving(ScriptedEngine, max_sockets=3) as served:
        held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(3)]
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", served.port)) as one_more:
            one_more.settimeout(5)
            with suppress(ConnectionResetError):
                assert one_more.recv(1) == b""
        for each in held:
            each.close()
