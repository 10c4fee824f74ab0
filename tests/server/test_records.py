import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from icebreaker.engine.messages import Tool
from icebreaker.engine.store import SessionStore, Stored
from icebreaker.server.records import Left, Records
from icebreaker.server.settings import Settings, TurnDetection
from icebreaker.server.sound import Format

SETTINGS = Settings(
    instructions="be brief", output="text", input_format=Format("audio/pcmu", 8000), max_output_tokens=12,
    turn_detection=TurnDetection(type="server_vad", threshold=1, idle_timeout_ms=5000), transcription=None,
    tools=(Tool(name="clock", parameters={"type": "object", "properties": {"zone": {"type": "string"}}}),),
    tool_choice="clock", tracing={"workflow_name": "w"},
)  # fmt: skip
LEFT = Left(SETTINGS, b"\x01digest")


def find(records: Records, session_id: str) -> Left | None:
    return asyncio.run(records.find(session_id))


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    store = SessionStore(tmp_path)
    store.claim("s")
    store.save("s", Stored({"saved_at": 4e9}, b""))
    return store


def test_without_a_folder_they_last_as_long_as_the_process() -> None:
    records = Records()
    records.keep("s", LEFT)
    assert find(records, "s") == LEFT
    records.forget("s")
    assert find(records, "s") is None


@pytest.mark.parametrize("settings", [SETTINGS, Settings(), Settings(turn_detection=None)])
def test_another_server_finds_all_of_it(store: SessionStore, tmp_path: Path, settings: Settings) -> None:
    records, left = Records(store), replace(LEFT, settings=settings)
    records.keep("s", left)
    records.close()
    assert find(Records(SessionStore(tmp_path)), "s") == left
    assert find(Records(SessionStore(tmp_path)), "../s") is None


def test_who_lost_a_session_reads_what_the_other_wrote(store: SessionStore, tmp_path: Path) -> None:
    one, other_store = Records(store), SessionStore(tmp_path)
    one.keep("s", LEFT)
    one.close()
    other_store.take("s")
    other = Records(other_store)
    newer = replace(LEFT, settings=replace(SETTINGS, instructions="be long"))
    other.keep("s", newer)
    other.close()
    assert find(one, "s") == newer


@pytest.mark.parametrize("content", ["", "[]", '{"key": "zz"}', '{"key": "00", "settings": {"tracing": 1, "x": 2}}'])
def test_what_cannot_be_read_is_not_there(store: SessionStore, tmp_path: Path, content: str) -> None:
    (tmp_path / "s" / "settings.json").write_text(content)
    assert find(Records(store), "s") is None


def test_no_key_is_written_out(store: SessionStore, tmp_path: Path) -> None:
    records = Records(store)
    records.keep("s", LEFT)
    records.close()
    assert json.loads((tmp_path / "s" / "settings.json").read_text())["key"] == LEFT.key.hex()
