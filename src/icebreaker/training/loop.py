"""The one training loop, visible: optimizer steps, checkpoints, resume. Knows nothing of models or losses.

A stage gives the trainable parameters, an endless deterministic stream of batches that can start at any step, and a
loss function. Nothing else of a run is state: the optimizer is saved, the schedule is a function of the step and random
numbers of the batch, so a resumed run takes the same steps as an uninterrupted one.

Several processes take the same steps, too: each has its share of the batches of a step, ``accumulate`` together, and
gradients are averaged, so the curve is that of one process up to rounding.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from icebreaker.errors import TrainingError
from icebreaker.training.devices import has_bfloat16
from icebreaker.training.memory import peak_memory
from icebreaker.training.metrics_log import append_row, forget_after
from icebreaker.training.processes import dealt, gathered, is_main, mean, rank, world
from icebreaker.training.run import OptimConfig, Run, Stateful
from icebreaker.training.sharding import average_gradients, average_statistics, clip_gradients, spread_from_main

__all__ = ["OptimConfig", "Run", "Stateful", "StepReport", "fit", "learning_rate", "train"]

logger = logging.getLogger(__name__)
Batch = TypeVar("Batch")


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
    seconds: float = 0.0  # that the step took
    batches: int = 0  # of all processes
    audio_s: float = 0.0  # speech in them, where batches know it
    peak_memory: int = 0  # bytes, of the process that needed most so far: on the GPU where it uses one; 0: unknown

    def line(self) -> str:
        """For a progress bar: loss, throughput, memory."""
        speech = f", {self.audio_s / self.seconds:.0f} s of speech/s" if self.audio_s else ""
        pace = f", {self.batches / self.seconds:.1f} batches/s{speech}" if self.seconds else ""
        memory = f", {self.peak_memory / 2**30:.1f} GiB" if self.peak_memory else ""
        return f"loss {self.loss:.3f}{pace}{memory}"


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

    ``loss_fn`` returns the loss to minimise and named parts of it, for the log only. ``batches`` are this process's;
    loss and parts in the report are means over all processes. bfloat16 is not used where it is slower.
    """
    config, device = run.config, run.parameters[0].device
    halved = config.dtype == "bfloat16" and has_bfloat16(device)
    if config.dtype == "bfloat16" and not halved:
        logger.warning("this CPU has no instructions for bfloat16 (AVX-512 has them): the stage computes in float32")
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=halved)
    began = time.monotonic()
    while run.step < config.steps and (group := list(islice(batches, config.accumulate // run.ranks))):
        rate = learning_rate(run.step, config)
        for settings in run.optimizer.param_groups:
            settings["lr"] = rate
        figures = dict[str, float]()
        for batch, number in zip(group, _numbers(run), strict=False):  # a finite stream may end within a step
            _seed(config.seed, number)
            with autocast:
                loss, named = loss_fn(batch)
            (loss / len(group)).backward()
            for name, value in (("loss", loss), *((f"part {name}", part) for name, part in named.items())):
                figures[name] = figures.get(name, 0.0) + float(value.detach()) / len(group)
        figures = mean(figures)
        total, parts = figures["loss"], {n.removeprefix("part "): v for n, v in figures.items() if n != "loss"}
        if not math.isfinite(total):
            raise TrainingError(f"the loss is {total} at step {run.step + 1}: lower lr, or look at the batch")
        average_gradients(run.parameters)
        average_statistics(run.modules.values())
        grad_norm = clip_gradients(run.parameters, config.max_grad_norm)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.step += 1
        everyone = gathered((len(group), sum(map(_audio_s, group)), peak_memory(device)))
        batches_taken, audio_s, memory = zip(*everyone, strict=True)
        yield StepReport(
            run.step, total, grad_norm, rate, parts, config.steps, sum(p.numel() for p in run.parameters),
            time.monotonic() - began, sum(batches_taken), sum(audio_s), max(memory),
        )  # fmt: skip
        began = time.monotonic()


def _numbers(run: Run) -> Iterator[int]:
    """Numbers in the global stream of this process's batches of the next step."""
    first = run.step * run.config.accumulate
    return iter(range(first + (rank() if run.ranks > 1 else 0), first + run.config.accumulate, run.ranks))


def _seed(seed: int, number: int) -> None:
    """Random numbers are those of the batch, whichever process takes it and whatever came before."""
    torch.manual_seed(int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1))


def _audio_s(batch: object) -> float:
    rows = batch if isinstance(batch, list) else [batch]
    return float(sum(getattr(row, "seconds", 0.0) for row in rows))


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
    """Run to the last step, resuming what ``folder`` holds of it; metrics go to ``folder/metrics.jsonl``.

    Args:
        run: what trains.
        batches_from: the stream of batches as it stands after so many micro-batches; must be deterministic. Of several
            processes each begins it anew for every batch of its share.
        loss_fn: as in ``fit``.
        folder: where checkpoints and metrics go; of several machines one that all of them see.
        evaluate: returns named figures; called every ``evaluate_every`` steps (0: never) and at the end, by all
            processes, since a sharded LLM needs them all.
        evaluate_every: in optimizer steps.
        progress: called with every report, for a progress bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spread_from_main([*run.modules.values(), *(part for part in run.also.values() if isinstance(part, nn.Module))])
    run.resume(folder)
    if run.step:
        logger.info("resumed %s at step %d", folder, run.step)
    if is_main():
        forget_after(folder / "metrics.jsonl", run.step)
    first = run.step * run.config.accumulate
    batches = dealt(batches_from, first) if run.ranks > 1 else iter(batches_from(first))
    pace, started = _Pace(), time.monotonic()
    for report in fit(run, batches, loss_fn):
        pace.add(report)
        progress(report)
        last = report.step == run.config.steps
        if report.step % run.config.log_every == 0 or last:
            _log(folder, report, pace.row(), time.monotonic() - started)
            pace = _Pace()
        if evaluate and (last or (evaluate_every and report.step % evaluate_every == 0)):
            _log_evaluation(folder, report.step, evaluate())
        if report.step % run.config.save_every == 0 or last:
            run.keep(folder)


@dataclass
class _Pace:
    """Throughput since the last row."""

    seconds: float = 0.0
    batches: int = 0
    audio_s: float = 0.0

    def add(self, report: StepReport) -> None:
        self.seconds += report.seconds
        self.batches += report.batches
        self.audio_s += report.audio_s

    def row(self) -> dict[str, float]:
        heard = {"audio_per_second": round(self.audio_s / self.seconds, 1)} if self.audio_s else {}
        return {"batches_per_second": round(self.batches / self.seconds, 3), **heard}


def _log(folder: Path, report: StepReport, pace: Mapping[str, float], seconds: float) -> None:
    if not is_main():
        return
    row = {"step": report.step, "loss": report.loss, "grad_norm": report.grad_norm, "lr": report.lr, **report.parts}
    memory = round(report.peak_memory / 2**20)
    logger.info(
        "step %d loss %.4f grad %.2f %.0fs, %.2f batches/s, %d MiB",
        report.step, report.loss, report.grad_norm, seconds, pace["batches_per_second"], memory,
    )  # fmt: skip
    several = {"processes": world()} if world() > 1 else {}
    row |= {"seconds": round(seconds, 1), **several, **pace, "peak_memory_mib": memory}
    append_row(folder / "metrics.jsonl", row)


def _log_evaluation(folder: Path, step: int, figures: Mapping[str, float]) -> None:
    if not is_main():
        return
    logger.info("step %d %s", step, " ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    append_row(folder / "metrics.jsonl", {"step": step, "evaluation": dict(figures)})
