"""Thousands of messages that are wrong in every way: nothing breaks, nothing is kept, every error says what was wrong.

``ICEBREAKER_FUZZ=20000`` sends as many.
"""

import gc
import json
import os
import socket
import time
import tracemalloc
from contextlib import ExitStack

import pytest
from grammar import MESSAGES
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from served import PATIENCE_S, Served, Talk, serving
from test_guard import UPGRADE
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from icebreaker.engine.scripted import ScriptedEngine

MESSAGES_IN_ALL = int(os.environ.get("ICEBREAKER_FUZZ", "2000"))
MESSAGES_EACH = 25
TYPES = {"invalid_request_error", "server_error"}


@pytest.fixture(scope="module")
def server():
    limits = {"messages_per_s": 1e6, "message_burst": 1_000_000, "audio_speed": 1e6, "audio_burst_s": 1e6}
    with serving(lambda: ScriptedEngine(max_sessions=8, grace_s=0.0), **limits) as served:
        yield served


def check(event: dict) -> None:
    assert event["type"]
    assert event["event_id"]
    if event["type"] == "error":
        error = event["error"]
        assert error["type"] in TYPES
        assert error["code"]
        assert "expected" in error["message"] or "missing" in error["message"] or error["param"] or (
            error["code"] in ("response_cancel_not_active", "unknown_parameter")
        ), error  # fmt: skip


def test_malformed_messages_are_answered_and_change_nothing_else(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    counts = {"messages": 0, "errors": 0}

    @seed(7)
    @settings(
        max_examples=MESSAGES_IN_ALL // MESSAGES_EACH, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(MESSAGES, min_size=MESSAGES_EACH, max_size=MESSAGES_EACH))
    def talk_nonsense(messages: list[str | bytes]) -> None:
        with server.talk() as talk:
            talk.next()
            for message in messages:
                talk.socket.send(message)
            talk.say("conversation.item.retrieve", item_id="nobody at all", event_id="the last")
            while True:
                event = talk.next()
                check(event)
                counts["errors"] += event["type"] == "error"
                if event["type"] == "error" and event["error"]["event_id"] == "the last":
                    break
        counts["messages"] += len(messages)

    talk_nonsense()
    assert counts["messages"] >= MESSAGES_IN_ALL - MESSAGES_EACH
    assert counts["errors"] > counts["messages"] / 10
    assert_nothing_stays(server)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def assert_nothing_stays(server: Served) -> None:
    stop = time.monotonic() + PATIENCE_S
    while server.engine.stats().sessions and time.monotonic() < stop:
        time.sleep(0.05)
    assert server.engine.stats().sessions == 0
    assert server.call(lambda: len(server.app.state.realtime.links)) == 0


def test_memory_stays_bounded(server: Served) -> None:
    def nonsense() -> None:
        with server.talk() as talk:
            for _ in range(10):
                talk.say("input_audio_buffer.append", audio="A" * 400_001)
                talk.say("session.update", session={"instructions": "x" * 200_000})
                talk.until("error")

    nonsense()
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            nonsense()
        assert_nothing_stays(server)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 2 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "ending", ["a frame cut short", "a reserved opcode", "an unmasked frame", "no utf-8", "a huge length"]
)
def test_broken_frames_end_one_connection_only(server: Served, ending: str) -> None:
    frames = {
        "a frame cut short": b"\x81\xfe\x01",
        "a reserved opcode": b"\x8f\x80\0\0\0\0",
        "an unmasked frame": b"\x81\x02{}",
        "no utf-8": b"\x81\x82\0\0\0\0\xff\xfe",
        "a huge length": b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
    }
    with server.talk() as other, socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(UPGRADE.format(host="localhost", more="").encode())
        assert raw.recv(12) == b"HTTP/1.1 101"
        raw.sendall(frames[ending])
        if ending == "a frame cut short":
            raw.shutdown(socket.SHUT_RDWR)
        other.say("conversation.item.retrieve", item_id="x")
        assert other.until("error")["error"]["code"] == "item_retrieve_invalid_item_id"
    assert_nothing_stays(server)


def test_many_connections_at_once_are_served_or_refused(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as stack:
        held, refused = [], 0
        for _ in range(12):
            try:
                held.append(stack.enter_context(connect(server.url)))
            except InvalidStatus as error:
                refused += error.response.status_code == 503
        assert (len(held), refused) == (8, 4)
        for websocket in held:
            assert json.loads(websocket.recv(timeout=PATIENCE_S))["type"] == "session.created"
    assert_nothing_stays(server)
    assert not caplog.records
    with connect(server.url) as websocket:
        assert Talk(websocket).next()["type"] == "session.created"
