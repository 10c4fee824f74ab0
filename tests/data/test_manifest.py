import json
from pathlib import Path
from typing import Any

import pytest

from icebreaker.data.manifest import Item, read_manifest, write_manifest
from icebreaker.errors import DataError

GOOD = {"id": "a", "audio": "audio/a.flac", "seconds": 2, "text": "hello"}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    items = [
        Item(id="a", audio=tmp_path / "audio" / "a.flac", seconds=1.5, text="hello", answer="Hi.", voice="v"),
        Item(id="b", audio=tmp_path / "audio" / "b.flac", seconds=2.0, text="bye", split="test", conversation="c"),
    ]
    write_manifest(tmp_path / "manifest.jsonl", items)
    assert read_manifest(tmp_path / "manifest.jsonl") == items
    assert read_manifest(tmp_path / "manifest.jsonl", split="test") == items[1:]
    assert json.loads((tmp_path / "manifest.jsonl").read_text().splitlines()[0])["audio"] == "audio/a.flac"
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.jsonl"]


def test_what_may_be_missing_has_defaults(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(json.dumps(GOOD) + "\n")
    assert read_manifest(path) == [Item(id="a", audio=tmp_path / "audio/a.flac", seconds=2.0, text="hello")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": "two"}, "seconds should be int, got 'two'"),
        ({"seconds": True}, "seconds should be int, got True"),
        ({"seconds": 0}, "seconds should be positive, got 0"),
        ({"seconds": float("nan")}, "seconds should be positive, got nan"),
        ({"text": None}, "text should be str, got None"),
        ({"answer": 3}, "answer should be str, got 3"),
    ],
)
def test_a_malformed_value_is_named_with_file_and_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | change) + "\n")
    with pytest.raises(DataError, match=f"manifest.jsonl:2: {message}"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a"', ":1: not JSON"),
        ("[1]", ":1: expected an object, got list"),
        ('{"id": "a"}', ":1: missing 'audio'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read_manifest(path)


def test_a_missing_manifest_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.jsonl: cannot read.*icebreaker data"):
        read_manifest(tmp_path / "nowhere.jsonl")
