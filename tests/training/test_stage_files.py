"""A stage's result is whole or not there."""

from pathlib import Path

import pytest
import torch
from torch import nn

from icebreaker.errors import TrainingError
from icebreaker.training import stage_files
from icebreaker.training.stage_files import load_into, save_stage, stage_config


def test_what_is_saved_is_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    save_stage(tmp_path, {"head": ours}, {"steps": 3})
    load_into(theirs, tmp_path, "head")
    assert torch.equal(ours.weight, theirs.weight)
    assert stage_config(tmp_path) == {"steps": 3}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_full_disk_leaves_the_last_result_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    save_stage(tmp_path, {"head": first}, {"steps": 3})

    def full(weights: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stage_files, "write_weights", full)
    with pytest.raises(
        TrainingError, match=r"could not save the finished stage: .*No space left.* run the stage again"
    ):
        save_stage(tmp_path, {"head": second}, {"steps": 4})
    load_into(second, tmp_path, "head")
    assert torch.equal(first.weight, second.weight)
    assert stage_config(tmp_path) == {"steps": 3}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
