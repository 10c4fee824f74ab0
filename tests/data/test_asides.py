from pathlib import Path

import numpy as np
import pytest
import soundfile

from icebreaker.data import asides
from icebreaker.data.asides import build_asides, kind_of
from icebreaker.data.manifest import Item, read_manifest, write_manifest
from icebreaker.data.manifest_check import check_manifest
from icebreaker.data.synthesis import Voice
from icebreaker.errors import DataError


def recordings(folder: Path, name: str) -> None:
    items = []
    for number, split in enumerate(["train"] * 4 + ["valid", "test"]):
        path = folder / name / f"{number}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(8000, np.float32), 16_000)
        voice = "assistant" if name == "answers" else f"v{number}"
        items.append(
            Item(id=f"{name}{number}", audio=path, seconds=0.5, text=f"{name} {number}", split=split, voice=voice)
        )
    write_manifest(folder / name / "manifest.jsonl", items)


def test_asides_are_of_four_kinds_with_held_out_voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, unknown = (Voice(name=f"espeak-{name}", engine="espeak", engine_voice=name) for name in ("en-us", "en-gb"))
    monkeypatch.setattr(asides, "TRAIN_VOICES", (known,))
    monkeypatch.setattr(asides, "HELD_OUT_VOICES", (unknown,))
    for name in ("human", "answers"):
        recordings(tmp_path, name)
    assert build_asides(tmp_path, tmp_path / "asides", items=4) == 2 * (4 + 1 + 1) + 2 * (4 + 1 + 1)
    items = read_manifest(tmp_path / "asides" / "manifest.jsonl")
    for kind in asides.ASIDE_KINDS:
        assert [item.split for item in items if kind_of(item) == kind].count("train") == 4
    spoken = [item for item in items if kind_of(item) in ("filler", "backchannel")]
    assert {(item.split == "train", item.voice) for item in spoken} == {(True, known.name), (False, unknown.name)}
    assert {item.text for item in spoken if kind_of(item) == "filler"} == {"um", "uh", "er", "hmm"}
    assert check_manifest(tmp_path / "asides" / "manifest.jsonl", sample_rate=16_000)[0] == len(items)
    before = (tmp_path / "asides" / "manifest.jsonl").read_bytes()
    build_asides(tmp_path, tmp_path / "asides", items=4)
    assert (tmp_path / "asides" / "manifest.jsonl").read_bytes() == before


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="song-1: expected an id that begins with filler, backchannel, other, echo"):
        kind_of(Item(id="song-1", audio=tmp_path, seconds=1.0, text="la"))
