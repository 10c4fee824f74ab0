"""The one training loop, visible: optimizer steps, checkpoints, resume. Knows nothing of models or losses.

A stage gives the trainable parameters, an endless deterministic stream of batches that can start at any step, and a
loss function. Nothing else of a run is state: the optimizer, the schedule (a function of the step) and the random
generators are saved, so a resumed run takes the same steps as an uninterrupted one.
"""

import contextlib
import json
import logging
import math
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from icebreaker.errors import TrainingError

__all__ = ["OptimConfig", "Run", "Stateful", "StepReport", "fit", "learning_rate", "train"]

logger = logging.getLogger(__name__)
Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up, then cosine decay to ``final_ratio``; ``steps`` is the whole run."""

    steps: int
    lr: float
    warmup: int = 200
    final_ratio: float = 0.05
    betas: tuple[float, ...] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01
    max_grad_norm: float = 5.0
    accumulate: int = 1
    dtype: str = "float32"  # or "bfloat16": autocast
    seed: int = 0
    log_every: int = 20
    save_every: int = 200

    def __post_init__(self) -> None:
        if self.steps < 1 or self.accumulate < 1:
            raise ValueError(f"steps {self.steps} and accumulate {self.accumulate} must be at least 1")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, got {self.dtype!r}")


@dataclass(frozen=True)
class StepReport:
    """One optimizer step: its number (from 1), mean loss over the accumulated batches, gradient norm, parts."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    parts: Mapping[str, float]
    total: int  # steps of the whole run
    trainable: int = 0  # parameters


class Stateful(Protocol):
    """A module or an optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """All that it is."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Become what ``state_dict`` gave."""


class Run:
    """What changes while training: named trainable modules, their optimizer, the step.

    ``also`` names what a stage keeps and steps by itself (a discriminator and its optimizer): saved and restored only.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], config: OptimConfig, also: Mapping[str, Stateful] | None = None
    ) -> None:
        self.modules = dict(modules)
        self.also = dict(also or {})
        self.config = config
        self.step = 0
        self.parameters = [p for m in self.modules.values() for p in m.parameters() if p.requires_grad]
        if not self.parameters:
            raise TrainingError("nothing to train: no parameter requires a gradient")
        decay = [p for p in self.parameters if p.dim() > 1]
        plain = [p for p in self.parameters if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.lr, betas=(config.betas[0], config.betas[1]), eps=config.eps,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs; frozen parts are not in it unless they are among ``modules``."""
        return {
            "step": self.step,
            "modules": {name: _trainable_state(module) for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "also": {name: part.state_dict() for name, part in self.also.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        for key, parts in (("modules", self.modules), ("also", self.also)):
            if wrong := sorted(parts.keys() ^ state.get(key, {}).keys()):
                raise TrainingError(f"the checkpoint is of another stage: {wrong[0]} is on one side only")
        for name, module in self.modules.items():
            _load_trainable(module, state["modules"][name], name)
        self.optimizer.load_state_dict(state["optimizer"])
        for name, part in self.also.items():
            part.load_state_dict(state["also"][name])
        torch.set_rng_state(state["random"])
        self.step = int(state["step"])

    def save(self, path: Path) -> None:
        """Write aside and rename, so that a full disk or a kill never leaves half a checkpoint."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(path.suffix + ".partial")
        try:
            torch.save(self.state_dict(), aside)
            os.replace(aside, path)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise TrainingError(
                f"{path}: could not save the checkpoint of step {self.step}: {error}; "
                "free some disk space and start again, the last saved checkpoint is whole"
            ) from error


def learning_rate(step: int, config: OptimConfig) -> float:
    """Learning rate of optimizer step ``step`` (from 0)."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    return config.lr * (config.final_ratio + (1 - config.final_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))


def fit(
    run: Run, batches: Iterator[Batch], loss_fn: Callable[[Batch], tuple[Tensor, Mapping[str, Tensor]]]
) -> Iterator[StepReport]:
    """Yield a report per optimizer step; the caller logs, evaluates, saves and stops.

    ``loss_fn`` returns the loss to minimise and named parts of it, for the log only.
    """
    config = run.config
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.dtype == "bfloat16")
    if run.parameters[0].is_cuda:
        autocast = torch.autocast("cuda", torch.bfloat16, enabled=config.dtype == "bfloat16")
    while run.step < config.steps and (group := list(islice(batches, config.accumulate))):
        rate = learning_rate(run.step, config)
        for settings in run.optimizer.param_groups:
            settings["lr"] = rate
        total, parts = 0.0, dict[str, float]()
        for batch in group:
            with autocast:
                loss, named = loss_fn(batch)
            (loss / len(group)).backward()
            total += float(loss.detach()) / len(group)
            for name, value in named.items():
                parts[name] = parts.get(name, 0.0) + float(value.detach()) / len(group)
        if not math.isfinite(total):
            raise TrainingError(f"the loss is {total} at step {run.step + 1}: lower lr, or look at the batch")
        grad_norm = nn.utils.clip_grad_norm_(run.parameters, config.max_grad_norm)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.step += 1
        trainable = sum(parameter.numel() for parameter in run.parameters)
        yield StepReport(run.step, total, float(grad_norm), rate, parts, config.steps, trainable)


def train(
    run: Run,
    batches_from: Callable[[int], Iterable[Batch]],
    loss_fn: Callable[[Batch], tuple[Tensor, Mapping[str, Tensor]]],
    folder: Path,
    *,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    evaluate_every: int = 0,
    progress: Callable[[StepReport], None] = lambda report: None,
) -> None:
    """Run to the last step, resuming from ``folder/last.pt`` if it is there; metrics go to ``folder/metrics.jsonl``.

    Args:
        run: what trains.
        batches_from: the stream of batches as it stands after so many micro-batches; must be deterministic.
        loss_fn: as in ``fit``.
        folder: where checkpoints and metrics go.
        evaluate: returns named figures; called every ``evaluate_every`` steps (0: never) and at the end.
        evaluate_every: in optimizer steps.
        progress: called with every report, for a progress bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "last.pt"
    torch.manual_seed(run.config.seed)
    np.random.seed(run.config.seed)
    if checkpoint.exists():
        run.load_state_dict(_read(checkpoint))
        logger.info("resumed %s at step %d", checkpoint, run.step)
    _forget_after(folder / "metrics.jsonl", run.step)
    batches = iter(batches_from(run.step * run.config.accumulate))
    started = time.monotonic()
    for report in fit(run, batches, loss_fn):
        progress(report)
        last = report.step == run.config.steps
        if report.step % run.config.log_every == 0 or last:
            _append(folder, report, time.monotonic() - started)
        if evaluate and (last or (evaluate_every and report.step % evaluate_every == 0)):
            _append_evaluation(folder, report.step, evaluate())
        if report.step % run.config.save_every == 0 or last:
            run.save(checkpoint)


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        state = torch.load(checkpoint, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"{checkpoint}: not a whole checkpoint of a training run ({reason}); remove it to start over"
        ) from error
    if not isinstance(state, dict) or "optimizer" not in state:
        raise TrainingError(f"{checkpoint}: not a checkpoint of a training run; choose another output folder")
    return state


def _forget_after(path: Path, step: int) -> None:
    """Drop the figures of steps that a resumed run takes again, and half a line that a kill left."""
    if not path.exists():
        return
    lines = path.read_bytes().decode(errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _is_row(line) and json.loads(line)["step"] <= step]
    if len(kept) == len(lines):
        return
    aside = path.with_suffix(".partial")
    try:
        aside.write_text("".join(kept))
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise TrainingError(f"{path}: could not be written: {error}; free some disk space and start again") from error


def _is_row(line: str) -> bool:
    try:
        return line.endswith("\n") and isinstance(json.loads(line)["step"], int)
    except (ValueError, KeyError, TypeError):
        return False


def _append(folder: Path, report: StepReport, seconds: float) -> None:
    row = {"step": report.step, "loss": report.loss, "grad_norm": report.grad_norm, "lr": report.lr, **report.parts}
    logger.info("step %d loss %.4f grad %.2f %.0fs", report.step, report.loss, report.grad_norm, seconds)
    _write_row(folder / "metrics.jsonl", {**row, "seconds": round(seconds, 1)})


def _append_evaluation(folder: Path, step: int, figures: Mapping[str, float]) -> None:
    logger.info("step %d %s", step, " ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    _write_row(folder / "metrics.jsonl", {"step": step, "evaluation": dict(figures)})


def _write_row(path: Path, row: Mapping[str, object]) -> None:
    """Append a whole line or nothing: half a line would spoil the next one."""
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, before)
        raise TrainingError(
            f"{path}: could not write the figures of step {row['step']}: {error}; "
            "free some disk space and start again, the last saved checkpoint is whole"
        ) from error


def _trainable_state(module: nn.Module) -> dict[str, Tensor]:
    frozen = _frozen_names(module)
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def _frozen_names(module: nn.Module) -> set[str]:
    """Both names of tied weights are among them."""
    return {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}


def _load_trainable(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    expected = _trainable_state(module)
    stored = state.keys() - _frozen_names(module)  # older checkpoints hold the second name of a frozen tied weight
    if wrong := sorted(expected.keys() ^ stored):
        raise TrainingError(f"the checkpoint of {name} does not fit the model: {wrong[0]} is on one side only")
    with torch.no_grad():
        for key, value in expected.items():
            if value.shape != state[key].shape:
                raise TrainingError(f"{name}.{key}: expected shape {tuple(value.shape)}, got {tuple(state[key].shape)}")
            value.copy_(state[key])
