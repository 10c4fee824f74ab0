from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from icebreaker.data.aside import written_aside
from icebreaker.data.kmeans import write_centres
from icebreaker.data.manifest import Item, write_manifest
from icebreaker.data.recording import save_flac
from icebreaker.errors import DataError


def test_what_is_written_aside_takes_its_place(tmp_path: Path) -> None:
    with written_aside(tmp_path / "new" / "file") as aside:
        aside.write_text("whole")
        assert not (tmp_path / "new" / "file").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    assert (tmp_path / "new" / "file").read_text() == "whole"


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def stopped() -> None:
        with written_aside(path) as aside:
            aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", ["manifest", "flac", "centres"])
def test_writers_clean_up_on_a_full_disk(tmp_path: Path, writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step fails as a full disk makes it fail: the error is ours, and no ``.aside`` stays."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"before")
    write = {
        "manifest": lambda: write_manifest(path, [Item(id="a", audio=tmp_path / "a.flac", seconds=1.0, text="hello")]),
        "flac": lambda: save_flac(path, np.zeros(160, np.float32), 16_000),
        "centres": lambda: write_centres(path, torch.zeros(2, 3)),
    }[writer]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(DataError, match=r"file: could not be written: .*No space left.* free some disk space"):
            write()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    write()
    assert path.read_bytes() != b"before"


def test_an_error_of_the_sound_library_counts_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not be written"), written_aside(tmp_path / "file"):
        soundfile.read(tmp_path / "nowhere.wav")
