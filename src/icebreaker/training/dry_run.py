"""Finds out in a minute what would stop a stage after hours: data, earlier stages, hashes, memory, disk. Saves nothing.

A dry run is the stage itself, with the shortest preparation, in a folder that is thrown away, stopped after two steps.
"""

import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icebreaker.config import to_mapping
from icebreaker.data.manifest import read_manifest
from icebreaker.data.manifest_check import check_manifest
from icebreaker.data.recording import Progress
from icebreaker.errors import IcebreakerError
from icebreaker.models.llm import LLM
from icebreaker.nn.weights import weights_sha256
from icebreaker.training.devices import device_of, named
from icebreaker.training.loop import StepReport
from icebreaker.training.memory import MemoryWatch
from icebreaker.training.stage_files import stage_config

__all__ = ["DryRun", "check_data", "dry_run"]

MANIFESTS = dict.fromkeys(
    ("questions", "sentences", "human", "natural", "words", "revoiced", "asides", "answers"), 16_000
)  # Hz
FEATURES = {
    "question_features": "questions", "human_features": "human", "sentence_features": "sentences",
    "natural_features": "natural", "word_features": "words", "revoiced_features": "revoiced",
    "aside_features": "asides",
}  # fmt: skip
STAGE_FOLDERS = ("encoder", "alignment", "codec_lm", "codec")
SHORTER = {"recordings": 64, "statistics_rows": 64, "evaluate_recordings": 4, "head_scenes": 0}
OPTIMIZER_COPIES = 3  # gradient and both moments, beside each parameter
CHECKPOINT_COPIES = 6  # parameters and moments, while the old checkpoint still stands beside the new one
STEPS = 2  # the first one pays for warming up
MIB = 2**20


class _EnoughError(Exception):
    """Two steps are taken."""


@dataclass
class DryRun:
    """What was found. ``problems`` is empty where nothing stands in the way."""

    problems: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)


def dry_run(
    config: Any,
    train: Callable[..., None],
    progress: Progress = lambda done, total: None,
) -> DryRun:
    """Check everything that ``train`` needs for ``config``, then take two of its steps without saving.

    Args:
        config: of a stage.
        train: the stage's ``run``.
        progress: called with the recordings looked at and their total.
    """
    found = DryRun()
    for check in (_check_device, _check_stages, _check_llm, _check_disk):
        _noting(found, check, config, found)
    for where, path, rate in _manifests(config):
        _noting(found, _check_manifest, where, path, rate, progress, found)
    _check_features(config, found)
    if not found.problems and hasattr(config, "optim"):
        _noting(found, _take_steps, config, train, found)
    return found


def check_data(config: Any, progress: Progress = lambda done, total: None) -> None:
    """Refuse a stage whose manifests have problems.

    Raises:
        DataError: the first manifest that has some; the message lists ten of them.
    """
    for _, path, rate in _manifests(config):
        check_manifest(path, sample_rate=rate, progress=progress)


def _noting(found: DryRun, act: Callable[..., None], *arguments: Any) -> None:
    """A problem is no reason to stop looking for others."""
    try:
        act(*arguments)
    except IcebreakerError as error:
        found.problems.append(str(error))
    except (MemoryError, RuntimeError, OSError, ValueError) as error:  # out of memory, a shape that does not fit
        found.problems.append(next(iter(str(error).splitlines()), type(error).__name__))


def _tables(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield where, values
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _tables(value, f"{where}{name}.")


def _manifests(config: Any) -> list[tuple[str, Path, int]]:
    """Key, path and least sample rate of every manifest that ``config`` names."""
    return [
        (f"{where}{name}", Path(value), MANIFESTS.get(name, 0))
        for where, table in _tables(to_mapping(config))
        for name, value in table.items()
        if isinstance(value, str) and (name in MANIFESTS or (name == "data" and value.endswith(".jsonl")))
    ]


def _check_manifest(where: str, path: Path, rate: int, progress: Progress, found: DryRun) -> None:
    count, seconds = check_manifest(path, sample_rate=rate, progress=progress)
    found.facts[where] = f"{count} recordings, {seconds / 3600:.1f} h"


def _check_features(config: Any, found: DryRun) -> None:
    """Stored features lie beside their manifest in the same table: as many rows as recordings."""
    for where, table in _tables(to_mapping(config)):
        for name, manifest in FEATURES.items():
            folder, path = table.get(name), table.get(manifest)
            if not folder or not path or not Path(path).exists():
                continue
            rows = Path(folder) / "rows.jsonl"
            stored = len(rows.read_bytes().splitlines()) if rows.exists() else 0
            try:
                wanted = len(read_manifest(Path(path)))
            except IcebreakerError:
                continue  # named already
            if stored < wanted:
                found.problems.append(
                    f"{where}{name}: {folder} has {stored} of {wanted} recordings; run `icebreaker data features`"
                )


def _check_device(config: Any, found: DryRun) -> None:
    """The device that the stage asks for is there."""
    found.facts["device"] = named(device_of(config))


def _check_stages(config: Any, found: DryRun) -> None:
    """Every earlier stage is finished."""
    for name in STAGE_FOLDERS:
        value = getattr(config, name, None)
        if isinstance(value, str | Path):
            stage = stage_config(Path(value)).get("stage", "an earlier stage")
            found.facts[name] = f"{value}, {stage}"


def _check_llm(config: Any, found: DryRun) -> None:
    """The LLM is the one that the earlier stages were trained with."""
    if getattr(config, "llm", None) is None:
        return
    sha256 = weights_sha256(LLM.load(Path(config.llm)))
    found.facts["llm"] = f"{config.llm}, SHA-256 {sha256[:12]}"
    for name in ("start_from", *STAGE_FOLDERS):
        value = getattr(config, name, None)
        if not isinstance(value, str | Path) or not (Path(value) / "config.json").exists():
            continue
        stage = stage_config(Path(value))
        known = stage.get("llm_sha256")
        known = known.get("after") if isinstance(known, dict) else stage.get("llm_weights_sha256")
        if known and known != sha256:
            found.problems.append(
                f"{name}: {value} was trained with an LLM of SHA-256 {known[:12]}, {config.llm} has {sha256[:12]}; "
                "name the same LLM, or train that stage again"
            )


def _check_disk(config: Any, found: DryRun) -> None:
    """Room for checkpoints is judged after the step, when the parameters are counted; here the folder only."""
    folder = _existing(Path(config.output))
    if not os.access(folder, os.W_OK):
        found.problems.append(f"output: {folder} cannot be written to; choose another folder")
    found.facts["disk"] = f"{shutil.disk_usage(folder).free / 2**30:.1f} GiB free in {folder}"


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _take_steps(config: Any, train: Callable[..., None], found: DryRun) -> None:
    times, reports = list[float](), list[StepReport]()
    watch = MemoryWatch(device_of(config))

    def advance(report: StepReport) -> None:
        times.append(time.monotonic())
        reports.append(report)
        if report.step == 1:
            watch.start()
        if report.step >= min(STEPS, report.total):
            raise _EnoughError

    with tempfile.TemporaryDirectory() as folder:
        shorter = {name: value for name, value in SHORTER.items() if hasattr(config, name)}
        output = type(config.output)(folder)
        began = time.monotonic()
        try:
            train(dataclasses.replace(config, output=output, **shorter), advance)
        except _EnoughError:
            pass
        finally:
            watch.stop()
    last = reports[-1]
    step_s = times[-1] - (times[-2] if len(times) > 1 else began)
    parameters = 4 * last.trainable
    room = CHECKPOINT_COPIES * parameters
    free = shutil.disk_usage(_existing(Path(config.output))).free
    if free < room:
        found.problems.append(
            f"output: {room / MIB:.0f} MiB needed for checkpoints, {free / MIB:.0f} MiB free; make room"
        )
    found.facts |= {
        "parameters": f"{last.trainable:,} trained, {parameters / MIB:.0f} MiB",
        "gradient and optimizer": f"{OPTIMIZER_COPIES * parameters / MIB:.0f} MiB",
        "activations": f"{watch.rise / MIB:.0f} MiB above the rest in one step",
        "memory in all": f"{watch.peak / MIB:.0f} MiB{' on the GPU' if watch.device.type == 'cuda' else ''}",
        "checkpoints": f"{room / MIB:.0f} MiB while one is written",
        "first losses": ", ".join(f"{report.loss:.3f}" for report in reports),
        "one step": f"{step_s:.2f} s",
        "all steps": f"{last.total} steps, {step_s * last.total / 60:.0f} min without evaluations",
    }
