from pathlib import Path

import numpy as np
import pytest
import soundfile

from icebreaker.data.manifest import Item, read_manifest, write_manifest
from icebreaker.data.manifest_check import check_manifest
from icebreaker.data.revoiced import build_revoiced
from icebreaker.errors import DataError


def recordings(folder: Path, kind: str, voices: tuple[str, ...]) -> None:
    """Two of train and one of test of each voice."""
    items = []
    for voice in voices:
        for number, split in enumerate(("train", "train", "test")):
            path = folder / kind / "audio" / f"{voice}{number}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).normal(0, 0.1, 4000).astype(np.float32)
            soundfile.write(path, noise, 16_000)
            answer = "fine" if kind != "human" else None
            items.append(
                Item(id=f"{kind}-{voice}{number}", audio=path, seconds=0.25, text=f"{kind} {voice} {number}",
                     answer=answer, split=split, voice=voice)
            )  # fmt: skip
    write_manifest(folder / kind / "manifest.jsonl", items)


def test_recordings_of_train_are_said_anew_with_their_words_and_answers(tmp_path: Path) -> None:
    recordings(tmp_path, "questions", ("espeak-en-us", "flite-awb"))
    recordings(tmp_path, "human", ("somebody",))
    assert build_revoiced(tmp_path, tmp_path / "revoiced", items=100) == 4
    made = read_manifest(tmp_path / "revoiced" / "manifest.jsonl")
    assert {(item.text, item.answer, item.voice, item.split) for item in made} == {
        ("questions flite-awb 0", "fine", "revoiced-flite-awb", "train"),
        ("questions flite-awb 1", "fine", "revoiced-flite-awb", "train"),
        ("human somebody 0", None, "revoiced-somebody", "train"),
        ("human somebody 1", None, "revoiced-somebody", "train"),
    }
    assert check_manifest(tmp_path / "revoiced" / "manifest.jsonl", sample_rate=16_000)[0] == 4
    assert build_revoiced(tmp_path, tmp_path / "fewer", items=3) == 1 + 1  # shares of 0.3 and 0.2, rounded


def test_what_is_there_is_kept_and_made_the_same_again(tmp_path: Path) -> None:
    recordings(tmp_path, "natural", ("heart", "puck"))
    out = tmp_path / "revoiced"
    build_revoiced(tmp_path, out, items=100)
    files = {path: path.read_bytes() for path in out.rglob("*.*")}
    lost = sorted((out / "audio").iterdir())[0]
    lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("audio/*")}
    counts: list[tuple[int, int]] = []
    build_revoiced(tmp_path, out, items=100, progress=lambda done, total: counts.append((done, total)))
    assert counts == [(4, 4)]
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == files
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_nothing_to_say_anew_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to say anew; run `icebreaker data natural`"):
        build_revoiced(tmp_path, tmp_path / "revoiced", items=10)
