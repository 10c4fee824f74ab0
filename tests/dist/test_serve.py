"""Two replicas on Ray Serve, one of them killed in mid-conversation, both replaced: real processes, real sockets."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import served
from served import Talk, utterance
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from icebreaker.server.config import ServerConfig

ray = pytest.importorskip("ray", reason="needs icebreaker-speech[dist]: run `make test-dist`")
from icebreaker.cluster.app import deploy, stop  # noqa: E402
from icebreaker.cluster.plan import EnginePlan, ServePlan  # noqa: E402

PATIENCE_S = 300.0  # replicas start slowly where other tests run beside
served.PATIENCE_S = PATIENCE_S
LONG = " ".join(["Once upon a time there was a king who talked for a long while."] * 6)  # nine seconds of it
PLACES = 3  # of each replica


class Deployed:
    """Two replicas with a folder of sessions between them."""

    def __init__(self, folder: Path) -> None:
        self.sessions = folder / "sessions"
        self.mark = f"ICEBREAKER_TEST={os.environ['ICEBREAKER_TEST']}"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/v1/realtime"
        engine = EnginePlan(model="scripted", max_sessions=PLACES, sessions=self.sessions)
        self.plan = ServePlan(
            engine=engine, server=ServerConfig(static=None, drain_s=20, instructions="first"), replicas=2, cpus=0.1
        )
        deploy(self.plan, "127.0.0.1", self.port)

    def replicas(self) -> set[int]:
        """Process ids."""
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if "ServeReplica:icebreaker" in (path / "cmdline").read_text():
                    found.update([int(path.name)] if self.mark in (path / "environ").read_text() else [])
            except OSError:  # gone in the meantime
                continue
        return found

    def leaders(self, session_id: str) -> int:
        """How many replicas have led a session so far."""
        return len(list((self.sessions / session_id).glob("*.claim")))

    @contextmanager
    def talk(self, query: str = "", **headers: str) -> Iterator[Talk]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with connect(self.url + query, additional_headers=named, open_timeout=PATIENCE_S, close_timeout=1) as websocket:
            yield Talk(websocket)


@pytest.fixture(scope="module")
def deployed(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    yield Deployed(tmp_path_factory.mktemp("serve"))
    stop()


def write(talk: Talk, text: str, name: str) -> None:
    item = {"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    talk.say("conversation.item.create", item=item)
    talk.until("conversation.item.done")


def answer(talk: Talk) -> str:
    talk.say("response.create")
    content: dict[str, Any] = talk.until("response.done")["response"]["output"][0]["content"][0]
    return str(content.get("transcript") or content.get("text"))


def until(true: Any, what: str) -> None:
    stop_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < stop_s, what
        time.sleep(0.1)


def test_a_conversation_through_the_proxy(deployed: Deployed) -> None:
    assert len(deployed.replicas()) == 2
    with deployed.talk() as talk:
        assert talk.next()["session"]["instructions"] == "first"
        talk.speak(utterance())
        done = talk.until("response.done")["response"]
        assert done["output"][0]["content"][0]["transcript"].startswith("You said: speech of")
        assert "response.output_audio.delta" in talk.kinds


def test_refusals_come_through_as_the_server_means_them(deployed: Deployed) -> None:
    with pytest.raises(InvalidStatus) as unknown, deployed.talk("?session_id=sess_nobody"):
        pass
    assert unknown.value.response.status_code == 404
    assert b"session_not_found" in unknown.value.response.body
    with ExitStack() as stack:  # newcomers go where there is room, until there is none
        for _ in range(2 * PLACES):
            stack.enter_context(deployed.talk()).next()
        with pytest.raises(InvalidStatus) as full, deployed.talk():
            pass
    assert full.value.response.status_code == 503
    assert int(full.value.response.headers["retry-after"]) > 0


def test_who_brings_a_name_meets_the_same_replica_again(deployed: Deployed) -> None:
    for number in range(4):
        with deployed.talk(x_session_id=f"caller-{number}") as talk:
            session_id = talk.next()["session"]["id"]
            write(talk, "seven", "fact")
        with deployed.talk(f"?session_id={session_id}", x_session_id=f"caller-{number}") as talk:
            assert talk.next()["session"]["id"] == session_id
            assert talk.until("conversation.item.added")["item"]["id"] == "fact"
        assert deployed.leaders(session_id) == 1


def test_clients_of_a_killed_replica_go_on_with_the_other(deployed: Deployed) -> None:
    """Four conversations on two replicas; one replica is killed while it answers."""
    with ExitStack() as stack:
        talks = [stack.enter_context(deployed.talk()) for _ in range(4)]
        ids = [talk.next()["session"]["id"] for talk in talks]
        for number, talk in enumerate(talks):
            talk.say("session.update", session={"output_modalities": ["text"], "instructions": f"caller {number}"})
            talk.until("session.updated")
            write(talk, f"my number is {number}", f"fact-{number}")
            assert answer(talk) == f"You said: my number is {number}"
            write(talk, LONG, f"story-{number}")
            talk.say("response.create")
            talk.until("response.output_text.delta")
        os.kill(min(deployed.replicas()), signal.SIGKILL)
        lost, kept = [], []
        for number, talk in enumerate(talks):
            try:
                assert LONG in talk.until("response.done")["response"]["output"][0]["content"][0]["text"]
                kept.append(number)
            except ConnectionClosed:
                lost.append(number)
        assert len(lost) + len(kept) == 4
        assert lost
        assert kept
        for number in lost:
            with deployed.talk(f"?session_id={ids[number]}") as talk:
                session = talk.next()["session"]
                assert (session["id"], session["instructions"]) == (ids[number], f"caller {number}")
                fact, said, story, cut = (talk.until("conversation.item.added")["item"] for _ in range(4))
                assert (fact["id"], story["id"]) == (f"fact-{number}", f"story-{number}")
                assert said["content"] == [{"type": "output_text", "text": f"You said: my number is {number}"}]
                assert (cut["role"], cut["status"]) == ("assistant", "incomplete")
                assert LONG in answer(talk)
            assert deployed.leaders(ids[number]) == 2
        for number in kept:
            write(talks[number], "still there", "last")
            assert answer(talks[number]) == "You said: still there"
    until(lambda: len(deployed.replicas()) == 2, "the killed replica was not replaced")


def test_a_rolling_update_lets_replies_end_and_sessions_move(deployed: Deployed) -> None:
    old = deployed.replicas()
    plan = replace(deployed.plan, server=replace(deployed.plan.server, instructions="second"))
    with deployed.talk() as talk:
        session_id = talk.next()["session"]["id"]
        write(talk, LONG, "story")
        talk.say("response.create")
        talk.until("response.output_audio.delta")
        update = threading.Thread(target=deploy, args=(plan, "127.0.0.1", deployed.port))
        update.start()
        done = talk.until("response.done")["response"]
        assert done["status"] == "completed"
        with pytest.raises(ConnectionClosed) as closed:
            talk.until("never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    with deployed.talk(f"?session_id={session_id}") as talk:
        session = talk.next()["session"]
        assert (session["id"], session["instructions"]) == (session_id, "first")  # as it was begun
        assert talk.until("conversation.item.added")["item"]["id"] == "story"
    update.join(PATIENCE_S)
    until(lambda: len(deployed.replicas() - old) == 2 and not deployed.replicas() & old, "the old replicas live on")
    with deployed.talk() as talk:
        assert talk.next()["session"]["instructions"] == "second"
