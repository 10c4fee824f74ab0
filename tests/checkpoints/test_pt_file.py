import argparse
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from icebreaker.checkpoints.pt_file import load_exactly, read_pt, rename, tensors, write_pt
from icebreaker.errors import CheckpointError


def test_a_plain_state_dict_comes_back(tmp_path: Path) -> None:
    write_pt(tmp_path / "deep" / "a.pt", {"weight": torch.arange(6.0).view(2, 3)})
    assert torch.equal(read_pt(tmp_path / "deep" / "a.pt")["weight"], torch.arange(6.0).view(2, 3))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.pt"]


class Trap:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_whatever_is_not_a_tensor_becomes_a_placeholder_and_runs_nothing(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {
        "model": net.state_dict(),
        "parameter": net.weight,
        "half": torch.ones(2, dtype=torch.float16),
        "optimizer": optimizer,
        "optimizer_state": optimizer.state_dict(),
        "arguments": argparse.Namespace(lr=1.0),
        "trap": Trap(tmp_path / "sprung"),
    }
    torch.save(content, tmp_path / "a.pt")
    found = read_pt(tmp_path / "a.pt")
    assert torch.equal(found["model"]["weight"], net.weight)
    assert torch.equal(found["parameter"], net.weight)
    assert found["half"].dtype == torch.float16
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pt: no such file"):
        read_pt(tmp_path / "absent.pt")


@pytest.mark.parametrize("keep", [0, 1, 200, 900])
def test_a_file_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "final.pt"
    torch.save({"weight": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"final\.pt: not a whole PyTorch checkpoint \(\d+ bytes"):
        read_pt(path)


def test_a_git_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "final.pt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:778ca0c4\nsize 752396798\n")
    with pytest.raises(CheckpointError, match="Git LFS pointer"):
        read_pt(path)


def test_another_zip_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "final.pt", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="not a whole PyTorch checkpoint"):
        read_pt(tmp_path / "final.pt")


def test_a_bare_tensor_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="expected a mapping of names to tensors, got Tensor"):
        read_pt(tmp_path / "a.pt")


def test_other_entries_beside_tensors_are_passed_over() -> None:
    assert list(tensors({"a": torch.ones(1), "epoch": 3}, "x")) == ["a"]
    with pytest.raises(CheckpointError, match="x: expected named tensors, got only epoch"):
        tensors({"epoch": 3}, "x")


def test_renaming_is_strict_both_ways() -> None:
    weights = {"a": torch.ones(1), "unused": torch.ones(2)}
    assert list(rename(weights, {"a": "ours.a", "unused": None}, "x")) == ["ours.a"]
    assert list(rename({"a": torch.ones(1)}, {"a": "ours.a", "unused": None}, "x")) == ["ours.a"]
    with pytest.raises(CheckpointError, match=r"x: .* missing b, c; unexpected unused"):
        rename(weights, {"a": "ours.a", "b": "ours.b", "c": "ours.c"}, "x")


def test_strided_half_precision_views_become_plain_float32() -> None:
    storage = torch.arange(4, dtype=torch.bfloat16)
    weights = {"weight": storage.as_strided((3, 2), (1, 1)), "bias": storage[:3]}
    with torch.device("meta"):
        module = nn.Linear(2, 3)
    load_exactly(module, weights, "x")
    assert module.weight.dtype == torch.float32
    assert module.weight.is_contiguous()
    assert torch.equal(module.weight, torch.tensor([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]))
    module.weight.data[0, 1] = 9.0
    assert module.weight[1, 0] == 1.0  # no longer shares a storage


def test_the_memory_layout_of_the_module_is_kept() -> None:
    with torch.device("meta"):
        module = nn.Linear(2, 3)
        module.weight.data = module.weight.data.t().contiguous().t()
    load_exactly(module, {"weight": torch.arange(6.0).view(3, 2), "bias": torch.zeros(3)}, "x")
    assert module.weight.stride() == (1, 3)
    assert torch.equal(module.weight, torch.arange(6.0).view(3, 2))


def test_a_shape_that_does_not_fit_is_named_as_the_file_names_it() -> None:
    weights = {"weight": torch.ones(3, 2), "bias": torch.ones(4)}
    with pytest.raises(
        CheckpointError, match=r"final\.pt: head\.b has shape \(4,\), the configuration asks for \(3,\)"
    ):
        load_exactly(nn.Linear(2, 3), weights, "final.pt", {"bias": "head.b"})
    with pytest.raises(CheckpointError, match="missing bias"):
        load_exactly(nn.Linear(2, 3), {"weight": torch.ones(3, 2)}, "x")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "final.pt"
    write_pt(path, {"weight": torch.ones(2)})

    def full(content: object, aside: Path) -> None:
        aside.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"final\.pt: cannot be written: .*No space left"):
        write_pt(path, {"weight": torch.zeros(2)})
    assert torch.equal(read_pt(path)["weight"], torch.ones(2))
    assert [each.name for each in tmp_path.iterdir()] == ["final.pt"]
