import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from icebreaker.checkpoints.weights_file import share_weights, write_weights


@pytest.fixture(params=[0o022, 0o027])
def mode(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of a new file under a umask."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_weights_are_files_like_any_other(tmp_path: Path, mode: int) -> None:
    weights = {"a": torch.arange(3.0)}
    write_weights(weights, tmp_path / "model.safetensors")
    assert mode_of(tmp_path / "model.safetensors") == mode
    assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], weights["a"])
    (tmp_path / "model.safetensors").chmod(0o640)
    write_weights(weights, tmp_path / "model.safetensors")
    assert mode_of(tmp_path / "model.safetensors") == 0o640  # somebody's choice


def test_a_folder_of_another_library(tmp_path: Path, mode: int) -> None:
    (tmp_path / "config.json").write_text("{}")
    for part in (1, 2):
        (tmp_path / f"model-{part}-of-2.safetensors").touch(mode=0o600)
    share_weights(tmp_path)
    assert {mode_of(path) for path in tmp_path.iterdir()} == {mode}
