import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from icebreaker.data.manifest import Item, write_manifest
from icebreaker.data.manifest_check import check_manifest, check_measured, manifest_problems
from icebreaker.errors import DataError


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Three voices in train, one of its own held out; real files of half a second."""
    made = []
    for number, (voice, split) in enumerate([("a", "train"), ("b", "train"), ("c", "train"), ("d", "test")]):
        path = tmp_path / f"{number}.flac"
        soundfile.write(path, np.zeros(8000, np.float32), 16_000)
        made.append(
            Item(id=f"i{number}", audio=path, seconds=0.5, text=f"text {number}", voice=voice, split=split,
                 conversation=f"k{number}")
        )  # fmt: skip
    return made


def test_a_manifest_in_order_is_counted(items: list[Item], tmp_path: Path) -> None:
    write_manifest(tmp_path / "manifest.jsonl", items)
    seen: list[tuple[int, int]] = []
    found = check_manifest(
        tmp_path / "manifest.jsonl", sample_rate=16_000, progress=lambda done, total: seen.append((done, total))
    )
    assert found == (4, 2.0)
    assert seen == [(4, 4)]


@pytest.mark.parametrize(
    ("index", "change", "problem"),
    [
        (1, {"id": "i0"}, "i0: 2 lines have this id"),
        (1, {"text": " "}, "i1: the text is empty"),
        (1, {"answer": ""}, "i1: the answer is empty; null says that there is none"),
        (1, {"audio": Path("nowhere.flac")}, "i1: nowhere.flac: no such file"),
        (1, {"seconds": 0.7}, "lasts 0.50 s, the manifest says 0.70 s"),
        (3, {"conversation": "k1"}, "i3: of conversation 'k1' in test, as i1 in train"),
        (3, {"text": "text 2", "voice": "c"}, "i3: the same words in the same voice in test as i2 in train"),
    ],
)
def test_each_problem_names_its_item(items: list[Item], index: int, change: dict[str, object], problem: str) -> None:
    changed = [replace(item, **change) if i == index else item for i, item in enumerate(items)]
    found = manifest_problems(changed)
    assert len(found) == 1
    assert found[0].endswith(problem)


def test_what_is_measured_is_checked_and_only_that(items: list[Item], tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    telephone = np.zeros(4000, np.float32)
    soundfile.write(items[3].audio, telephone, 8_000)
    write_manifest(path, [replace(items[0], text=""), *items[1:]])
    check_measured(path, {"i1", "i3"})
    write_manifest(path, [*items[:3], replace(items[3], text="text 1", voice="b", seconds=2.0)])
    with pytest.raises(DataError, match=r"2 problems.*\n  i3: the same words in the same voice in test as i1 in train"
                                        r"\n  i3: .*lasts 0.50 s, the manifest says 2.00 s"):  # fmt: skip
        check_measured(path, {"i3"})


def test_files_of_the_wrong_kind_are_named(items: list[Item]) -> None:
    soundfile.write(items[0].audio, np.zeros(4000, np.float32), 8_000)
    items[1].audio.write_bytes(b"no audio at all")
    found = manifest_problems(items, sample_rate=16_000)
    assert [line.split(": ")[0] for line in found] == ["i0", "i1"]
    assert found[0].endswith("8000 Hz, expected at least 16000 Hz")
    assert "not readable" in found[1]


def test_a_voice_in_both_is_wrong_only_where_voices_are_split(items: list[Item]) -> None:
    more = [replace(items[3], id=f"j{i}", text=f"more {i}", conversation=None, voice=f"v{i}") for i in range(3)]
    heard = replace(items[3], id="heard", text="more", conversation=None, voice="a")
    assert manifest_problems([*items, *more, heard]) == ["heard: voice 'a' in test, and in train (i0)"]
    everywhere = [replace(item, voice="a") for item in items]
    assert manifest_problems(everywhere) == []


def test_ten_offenders_are_listed_and_the_rest_counted(items: list[Item], tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, [replace(items[0], id=f"x{i}", text="") for i in range(13)])
    with pytest.raises(DataError, match=r"manifest.jsonl: 13 problems; mend or remove these lines:") as raised:
        check_manifest(path)
    lines = str(raised.value).splitlines()
    assert [line.strip() for line in lines[1:11]] == [f"x{i}: the text is empty" for i in range(10)]
    assert lines[11:] == ["  and 3 more"]


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").touch()
    with pytest.raises(DataError, match="no recording at all"):
        check_manifest(tmp_path / "manifest.jsonl")


def test_thousands_of_lines_take_seconds(items: list[Item], tmp_path: Path) -> None:
    """A third of a millisecond each is measured, ten times that allowed: 100,000 lines are half a minute."""
    path, row = tmp_path / "manifest.jsonl", {"audio": "0.flac", "seconds": 0.5, "voice": "a"}
    path.write_text("".join(json.dumps({**row, "id": f"n{i}", "text": f"t{i}"}) + "\n" for i in range(2000)))
    before = time.process_time()
    assert check_manifest(path)[0] == 2000
    assert time.process_time() - before < 6
