"""The folder format in a group of one process; saved with two and resumed with one is in tests/dist."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from icebreaker.errors import TrainingError
from icebreaker.training import sharded_checkpoint
from icebreaker.training.run import OptimConfig, Run, begun


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def trained(width: int = 4, seed: int = 0) -> tuple[Run, nn.Module]:
    torch.manual_seed(seed)
    model, judge = nn.Linear(3, width), nn.Linear(2, 2)
    run = Run({"model": model}, OptimConfig(steps=3, lr=0.1), also={"judge": judge})
    model(torch.ones(1, 3)).sum().backward()
    run.optimizer.step()
    return run, judge


def write(run: Run, folder: Path, step: int) -> Path:
    state = run.state_dict()
    return sharded_checkpoint.write(folder, step, state["modules"], run.optimizer, run.names(), state["also"])


def values(run: Run) -> list[Tensor]:
    moments = [value for p in run.parameters for value in run.optimizer.state[p].values()]
    return [*run.parameters, *moments]


def test_a_new_run_becomes_the_written_one(tmp_path: Path) -> None:
    run, judge = trained()
    write(run, tmp_path, 2)
    torch.manual_seed(5)
    model, other = nn.Linear(3, 4), nn.Linear(2, 2)
    fresh = Run({"model": model}, OptimConfig(steps=3, lr=0.1), also={"judge": other})
    fresh.resume(tmp_path)
    assert fresh.step == 2
    assert all(torch.equal(a, b) for a, b in zip(values(run), values(fresh), strict=True))
    assert torch.equal(judge.weight, other.weight)
    assert fresh.parameters[0] is model.weight  # filled in place


def test_the_latest_whole_one_counts(tmp_path: Path) -> None:
    run, _ = trained()
    assert not begun(tmp_path)
    for step in (9, 10):
        write(run, tmp_path, step)
    half = write(run, tmp_path, 11)
    (half / ".metadata").unlink()
    (tmp_path / "last-notes").mkdir()
    assert sharded_checkpoint.newest(tmp_path) == tmp_path / "last-10"
    assert begun(tmp_path)
    run.step = 10
    run.save(tmp_path / "last.pt")
    run.step = 0
    run.resume(tmp_path)  # of one step the file
    run.keep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last-notes", "last.pt"]


def test_a_checkpoint_of_something_else_is_named(tmp_path: Path) -> None:
    run, _ = trained()
    folder = write(run, tmp_path, 1)
    with pytest.raises(TrainingError, match=r"last-1: .* of another stage or model: modules/model/bias .* shape"):
        trained(width=5)[0].resume(tmp_path)
    other = Run({"encoder": nn.Linear(3, 4)}, OptimConfig(steps=1, lr=1.0))
    with pytest.raises(TrainingError, match="of another stage or model"):
        other.resume(tmp_path)
    (folder / ".metadata").write_bytes(b"no pickle")
    with pytest.raises(TrainingError, match=r"last-1: not a whole checkpoint .*remove it"):
        run.resume(tmp_path)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = trained()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sharded_checkpoint.state_dict_saver, "save", full)
    with pytest.raises(TrainingError, match=r"last-3: could not save .* No space left on device; free some disk"):
        write(run, tmp_path, 3)
