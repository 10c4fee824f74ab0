"""Clients that drop and come back, a server that is told to stop, and one that is killed: real processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from served import PATIENCE_S, Served, Talk, serving, tone, utterance
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from icebreaker.engine.scripted import ScriptedEngine, echo

SLOW = "Once upon a time there was a king who talked for a very long while."


@pytest.fixture
def server():
    with serving(lambda: ScriptedEngine(echo, grace_s=5)) as served:
        yield served


def begin(server: Served) -> str:
    """A session with an instruction and a message, then dropped without a word; its id."""
    with server.talk() as talk:
        session_id = talk.next()["session"]["id"]
        assert talk.socket.response.headers["x-session-id"] == session_id
        talk.say("session.update", session={"instructions": "be brief", "output_modalities": ["text"]})
        item = {"id": "fact", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "seven"}]}
        talk.say("conversation.item.create", item=item)
        talk.until("conversation.item.done")
        talk.socket.socket.shutdown(socket.SHUT_RDWR)
    return session_id


@pytest.mark.parametrize("by", ["query", "header"])
def test_a_dropped_client_finds_its_conversation(server: Served, by: str) -> None:
    session_id = begin(server)
    url = f"{server.url}&session_id={session_id}" if by == "query" else server.url
    headers = {} if by == "query" else {"x-session-id": session_id}
    with server.talk(url=url, additional_headers=headers) as talk:
        session = talk.next()["session"]
        assert session["id"] == session_id
        assert session["instructions"] == "be brief"
        assert talk.until("conversation.item.added")["item"]["id"] == "fact"
        talk.say("response.create")
        done = talk.until("response.done")["response"]
        assert done["output"][0]["content"] == [{"type": "output_text", "text": "You said: seven"}]


def test_a_session_that_is_still_held_goes_to_the_newcomer(server: Served) -> None:
    with server.talk() as old:
        session_id = old.next()["session"]["id"]
        with server.talk(url=f"{server.url}&session_id={session_id}") as new:
            assert new.next()["session"]["id"] == session_id
            with pytest.raises(ConnectionClosed) as closed:
                old.until("never")
            assert closed.value.rcvd.code == 4001
            new.speak(utterance())
            new.until("response.done")


def test_unknown_and_foreign_sessions_are_not_found(server: Served) -> None:
    for url in (f"{server.url}&session_id=sess_nobody", f"{server.url}&session_id=%00"):
        with pytest.raises(InvalidStatus) as refusal, connect(url):
            pass
        assert refusal.value.response.status_code == 404
        assert b"session_not_found" in refusal.value.response.body
    with server.talk(additional_headers={"x-session-id": "a-router's own"}) as talk:
        assert talk.next()["type"] == "session.created"


def test_another_key_cannot_resume() -> None:
    with serving(ScriptedEngine, api_keys=("mine", "yours")) as served:
        with served.talk(additional_headers={"Authorization": "Bearer mine"}) as talk:
            session_id = talk.next()["session"]["id"]
        url = f"{served.url}&session_id={session_id}"
        with (
            pytest.raises(InvalidStatus) as refusal,
            connect(url, additional_headers={"Authorization": "Bearer yours"}),
        ):
            pass
        assert refusal.value.response.status_code == 404
        with served.talk(url=url, additional_headers={"Authorization": "Bearer mine"}) as talk:
            assert talk.next()["session"]["id"] == session_id


def test_the_grace_period_ends() -> None:
    with serving(lambda: ScriptedEngine(grace_s=0.2)) as served:
        session_id = begin(served)
        time.sleep(0.5)
        with pytest.raises(InvalidStatus) as refusal, connect(f"{served.url}&session_id={session_id}"):
            pass
        assert refusal.value.response.status_code == 404


def test_many_come_and_go_and_nothing_stays(server: Served) -> None:
    for count in range(30):
        with server.talk() as talk:
            talk.next()
            if count % 3 == 0:
                talk.speak(tone(200))
            if count % 3 == 1:
                talk.say("response.create")
            if count % 2:
                talk.socket.socket.shutdown(socket.SHUT_RDWR)
    stop = time.monotonic() + PATIENCE_S
    while server.engine.stats().sessions and time.monotonic() < stop:
        time.sleep(0.05)
    assert server.engine.stats().sessions == 0
    assert server.call(lambda: len(server.app.state.realtime.links)) == 0


class Process:
    """``icebreaker serve`` as a process."""

    def __init__(self, port: int, log: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "icebreaker", "serve", "--model", "scripted", "--port", str(port), *arguments]
        self.log = log.open("wb")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        told = b""
        while b"WebSocket" not in told:
            line = self.process.stdout.readline()
            assert line, log.read_text()
            told += line
        self.port = int(re.search(rb":(\d+)/v1/realtime", told)[1])
        self.url = f"ws://127.0.0.1:{self.port}/v1/realtime"
        stop = time.monotonic() + 20
        while self.status("/health") != 200:
            assert time.monotonic() < stop, log.read_text()
            time.sleep(0.05)

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@contextmanager
def process(port: int, tmp_path: Path, *arguments: str) -> Iterator[Process]:
    running = Process(port, tmp_path / f"log-{time.monotonic()}", *arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        running.process.stdout.close()
        running.log.close()


def test_sigterm_lets_the_reply_end_and_nobody_in(tmp_path: Path) -> None:
    with process(0, tmp_path) as running, connect(running.url) as websocket:
        talk = Talk(websocket)
        assert running.status("/ready") == 200
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": SLOW}]}
        talk.say("conversation.item.create", item=item)
        talk.say("response.create")
        talk.until("response.output_audio.delta")
        running.process.send_signal(signal.SIGTERM)
        stop = time.monotonic() + PATIENCE_S
        while running.status("/ready") != 503:
            assert time.monotonic() < stop
        with pytest.raises(InvalidStatus) as refusal, connect(running.url):
            pass
        assert refusal.value.response.status_code == 503
        done = talk.until("response.done")["response"]
        assert done["status"] == "completed"
        assert SLOW in done["output"][0]["content"][0]["transcript"]
        with pytest.raises(ConnectionClosed) as closed:
            talk.next()
        assert closed.value.rcvd.code == 1001
        assert running.process.wait(PATIENCE_S) == 0
        lines = [json.loads(line) for line in Path(running.log.name).read_text().splitlines()]
        assert {"connected", "draining 1 conversations"} <= {line["message"] for line in lines}
        sessions = {line["session"] for line in lines if "session" in line}
        assert len(sessions) == 1
        assert len(sessions.pop()) == 12


def test_the_grace_of_a_drain_ends(tmp_path: Path) -> None:
    with process(0, tmp_path, "--drain-s", "0.5") as running, connect(running.url) as websocket:
        talk = Talk(websocket)
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": SLOW * 20}]}
        talk.say("conversation.item.create", item=item)
        talk.say("response.create")
        talk.until("response.output_audio.delta")
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            talk.until("never")
        assert closed.value.rcvd.code == 1001
        assert running.process.wait(PATIENCE_S) == 0


def test_killed_and_started_again_it_serves_at_once(tmp_path: Path) -> None:
    with process(0, tmp_path) as first, connect(first.url) as websocket:
        Talk(websocket).next()
        first.process.kill()
        first.process.wait()
        with process(first.port, tmp_path) as second, connect(second.url) as again:
            talk = Talk(again)
            talk.speak(utterance())
            talk.until("response.done")
