"""The training loop on a toy regression: resume, accumulation, full disks, frozen parts."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from icebreaker.errors import TrainingError
from icebreaker.training.devices import has_bfloat16
from icebreaker.training.frozen import freeze, stays_frozen
from icebreaker.training.loop import OptimConfig, Run, fit, learning_rate, train

Batch = tuple[Tensor, Tensor]


def batches_from(start: int) -> Iterator[Batch]:
    index = start
    while True:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(index))
        yield x, x.sum(dim=1, keepdim=True)
        index += 1


def setup(config: OptimConfig) -> tuple[Run, nn.Module]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 1))
    return Run({"model": model}, config), model


def losses(run: Run, model: nn.Module, folder: Path) -> list[float]:
    found: list[float] = []

    def loss_fn(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss = (model(batch[0]) - batch[1]).square().mean()
        return loss, {"squared": loss}

    train(run, batches_from, loss_fn, folder, progress=lambda report: found.append(report.loss))
    return found


def test_resume_equals_uninterrupted(tmp_path: Path) -> None:
    """Dropout, accumulation and the schedule included: the same losses, the same weights."""
    config = OptimConfig(steps=12, lr=1e-2, warmup=3, accumulate=2, save_every=1, log_every=1)
    run, model = setup(config)
    whole = losses(run, model, tmp_path / "whole")

    first, half = setup(config)
    stopped: list[float] = []

    class Stopped(Exception):
        pass

    def stop(report) -> None:
        stopped.append(report.loss)
        if report.step == 6:
            raise Stopped

    def loss_fn(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return (half(batch[0]) - batch[1]).square().mean(), {}

    with pytest.raises(Stopped):
        train(first, batches_from, loss_fn, tmp_path / "parts", progress=stop)
    second, resumed = setup(config)
    with torch.no_grad():
        for parameter in resumed.parameters():
            parameter.zero_()  # all that counts is the checkpoint
    rest = losses(second, resumed, tmp_path / "parts")
    assert stopped[:5] + rest == whole
    for ours, theirs in zip(resumed.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_metrics_are_written(tmp_path: Path) -> None:
    run, model = setup(OptimConfig(steps=4, lr=1e-2, log_every=2))
    losses(run, model, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert rows[0]["squared"] == pytest.approx(rows[0]["loss"])


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, model = setup(OptimConfig(steps=2, lr=1e-2, save_every=1))
    losses(run, model, tmp_path)
    before = (tmp_path / "last.pt").read_bytes()

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"last.pt: could not save .* No space left on device; free some disk"):
        run.save(tmp_path / "last.pt")
    assert (tmp_path / "last.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    run, model = setup(OptimConfig(steps=3, lr=1e-2))
    with pytest.raises(TrainingError, match="the loss is nan at step 1"):
        next(fit(run, batches_from(0), lambda batch: (model(batch[0]).sum() * torch.nan, {})))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run, model = setup(OptimConfig(steps=2, lr=1e-2))
    losses(run, model, tmp_path)
    other = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
    with pytest.raises(TrainingError, match=r"model.0.weight: expected shape \(8, 4\), got \(16, 4\)"):
        losses(Run({"model": other}, OptimConfig(steps=3, lr=1e-2)), other, tmp_path)


@pytest.mark.parametrize("quick", [True, False])
def test_bfloat16_is_computed_in_only_where_it_is_quick(
    quick: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("icebreaker.training.loop.has_bfloat16", lambda device: quick)
    run, model = setup(OptimConfig(steps=1, lr=1e-2, dtype="bfloat16"))
    computed: list[torch.dtype] = []

    def loss_fn(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        made = model(batch[0])
        computed.append(made.dtype)
        return made.float().square().mean(), {}

    next(fit(run, batches_from(0), loss_fn))
    assert computed == [torch.bfloat16 if quick else torch.float32]
    assert bool(caplog.records) != quick


@pytest.mark.parametrize(
    ("capability", "quick"), [("AVX512", True), ("SVE256", True), ("AVX2", False), ("DEFAULT", False)]
)
def test_which_cpus_are_quick_in_bfloat16(capability: str, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert has_bfloat16(torch.device("cpu")) == quick
    assert has_bfloat16(torch.device("cuda"))


def test_schedule_warms_up_and_decays() -> None:
    config = OptimConfig(steps=100, lr=1.0, warmup=10, final_ratio=0.1)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)


def test_frozen_parts_are_not_saved_and_must_not_move(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    freeze(model[0])
    run = Run({"model": model}, OptimConfig(steps=1, lr=1e-2))
    assert set(run.state_dict()["modules"]["model"]) == {"1.weight", "1.bias"}
    with stays_frozen(model[0], "the first layer"):
        losses(run, model, tmp_path)
    with pytest.raises(TrainingError, match="the first layer moved"), stays_frozen(model[0], "the first layer"):
        model[0].weight.data[0, 0] += 1e-7


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(TrainingError, match="nothing to train"):
        Run({"model": freeze(nn.Linear(2, 2))}, OptimConfig(steps=1, lr=1.0))


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run, model = setup(OptimConfig(steps=2, lr=1e-2))
    losses(run, model, tmp_path)
    checkpoint = tmp_path / "last.pt"
    whole = checkpoint.read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2]):
        checkpoint.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"last\.pt: not a whole checkpoint .* remove it to start over"):
            losses(*setup(OptimConfig(steps=3, lr=1e-2)), tmp_path)
    torch.save({"weight": torch.zeros(1)}, checkpoint)
    with pytest.raises(TrainingError, match="choose another output folder"):
        losses(*setup(OptimConfig(steps=3, lr=1e-2)), tmp_path)
    checkpoint.write_bytes(whole)
    other = Run({"encoder": model}, OptimConfig(steps=3, lr=1e-2))
    with pytest.raises(TrainingError, match="of another stage: encoder is on one side only"):
        losses(other, model, tmp_path)


def test_a_full_disk_leaves_whole_lines_of_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses(*setup(OptimConfig(steps=2, lr=1e-2, log_every=1)), tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    before = metrics.read_text()

    class Full(io.StringIO):
        """What fits of a line gets to the disk, then it is full."""

        def write(self, text: str) -> int:
            with open(metrics, "a") as file:
                file.write(text[:10])
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        opened = Path.open
        patch.setattr(
            Path, "open", lambda path, mode="r", **more: Full() if mode == "a" else opened(path, mode, **more)
        )
        with pytest.raises(TrainingError, match=r"metrics\.jsonl: could not write the figures of step 3: .*No space"):
            losses(*setup(OptimConfig(steps=3, lr=1e-2, log_every=1)), tmp_path)
    assert metrics.read_text() == before


def test_a_resumed_run_forgets_the_figures_after_its_checkpoint(tmp_path: Path) -> None:
    losses(*setup(OptimConfig(steps=4, lr=1e-2, log_every=1)), tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    whole = [json.loads(line)["loss"] for line in metrics.read_text().splitlines()]
    with metrics.open("a") as file:  # what a run that was killed after its last checkpoint leaves
        file.write('{"step": 5, "loss": 99.0}\n{"step": 4, "evaluation": {"wer": 0.5}}\n{"step": 6, "lo')
    losses(*setup(OptimConfig(steps=6, lr=1e-2, log_every=1)), tmp_path)
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4, 5, 6]
    assert [row["loss"] for row in rows[:4]] == whole
    assert rows[5]["loss"] != 99.0
    (tmp_path / "last.pt").unlink()
    losses(*setup(OptimConfig(steps=2, lr=1e-2, log_every=1)), tmp_path)
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [1, 2]


def test_a_frozen_tied_weight_is_saved_under_neither_name(tmp_path: Path) -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "body": nn.Linear(3, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    model["embed"].requires_grad_(False)
    run = Run({"model": model}, OptimConfig(steps=1, lr=1e-2))
    assert run.state_dict()["modules"]["model"].keys() == {"body.weight", "body.bias"}
    older = run.state_dict()
    older["modules"]["model"]["head.weight"] = torch.zeros(5, 3)
    before = model["embed"].weight.clone()
    run.load_state_dict(older)  # written when the second name was still saved
    assert torch.equal(model["embed"].weight, before)
