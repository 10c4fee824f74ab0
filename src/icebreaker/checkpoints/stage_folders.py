"""Folders that training stages left: their weights and what they say about themselves. Knows no family.

Each holds ``model.safetensors``, keyed ``<part>.<parameter>``, and the ``config.json`` it was made with.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from icebreaker.checkpoints.bundle import CARD, LLMReference, load_weights
from icebreaker.checkpoints.card import StageRecord
from icebreaker.config import from_mapping
from icebreaker.errors import CheckpointError, ConfigError
from icebreaker.models.llm import LLM
from icebreaker.models.llm_folder import folder_sha256
from icebreaker.nn.weights import weights_sha256

__all__ = [
    "UNPACKED", "Stage", "check_one_llm", "earlier_card", "find_stage", "llm_reference", "read_stage", "sizes_together",
    "stage_records", "weights_of",
]  # fmt: skip

Sizes = TypeVar("Sizes")
UNPACKED = "unpacked"  # in the configuration of a folder that comes from a bundle, not from training


class Stage(NamedTuple):
    """What a finished stage left."""

    folder: Path
    config: dict[str, Any]

    def entry(self, name: str) -> Any:
        """One value of its configuration.

        Raises:
            CheckpointError: there is none of that name.
        """
        if name not in self.config:
            raise CheckpointError(f"{self.folder / 'config.json'}: expected an entry {name!r}; run that stage again")
        return self.config[name]


def find_stage(runs: Path, names: tuple[str, ...], configs: str) -> Stage:
    """The first finished stage among ``names`` under ``runs``; ``configs`` is where their configurations lie.

    Raises:
        CheckpointError: none is finished.
    """
    for name in names:
        if (stage := read_stage(runs / name)) is not None:
            return stage
    raise CheckpointError(
        f"{runs / names[0]}: no finished stage (model.safetensors and config.json) there; run "
        f"icebreaker train {configs}/{names[-1]}.toml first"
    )


def read_stage(folder: Path) -> Stage | None:
    """The stage in ``folder``, if it is finished."""
    if not ((folder / "model.safetensors").is_file() and (folder / "config.json").is_file()):
        return None
    return Stage(folder, _read_json(folder / "config.json"))


def weights_of(stages: Mapping[str, Stage]) -> dict[str, Tensor]:
    """All weights of the parts that are the keys of ``stages``, by their full names.

    Raises:
        CheckpointError: a stage left none of its part.
    """
    weights: dict[str, Tensor] = {}
    for part, stage in stages.items():
        path = stage.folder / "model.safetensors"
        found = {key: value for key, value in load_weights(path).items() if key.startswith(f"{part}.")}
        if not found:
            raise CheckpointError(f"{path}: expected weights named {part}.*, found none; run that stage again")
        weights |= found
    return weights


def check_one_llm(stages: Iterable[Stage], llm_folder: Path) -> None:
    """Every stage that used the LLM left its fingerprint; all must be that of the LLM in the bundle.

    Raises:
        CheckpointError: one was trained with another.
    """
    recorded = {stage.folder: sha256 for stage in stages if (sha256 := _llm_fingerprint(stage.config))}
    if not recorded:
        return
    found = weights_sha256(LLM.load(llm_folder))
    for folder, sha256 in recorded.items():
        if sha256 != found:
            raise CheckpointError(
                f"{folder} was trained with an LLM of fingerprint {sha256[:16]}, {llm_folder} has {found[:16]}; "
                "train that stage again with this LLM"
            )


def llm_reference(llm_folder: Path, width: int, *, embed: bool) -> LLMReference:
    """The LLM of a bundle, named after its folder, or after its stage where the folder is just called ``llm``."""
    name = llm_folder.parent.name if llm_folder.name == "llm" else llm_folder.name
    return LLMReference(sha256=folder_sha256(llm_folder), width=width, name=name, path="llm" if embed else None)


def sizes_together(sizes: type[Sizes], values: Mapping[str, Any]) -> Sizes:
    """A model's configuration from what its stages say, each about its part.

    Raises:
        CheckpointError: the parts do not fit each other.
    """
    try:
        return from_mapping(sizes, values, "the stages together")
    except ConfigError as error:
        raise CheckpointError(f"{error}; were all stages made with the same sizes?") from error


def stage_records(folders: Iterable[Path]) -> list[StageRecord]:
    """What the stages that were run here say about themselves; one without a configuration gives only its metrics."""
    records = [_record(folder) for folder in folders if folder.is_dir()]
    told = (record for record in records if record.config or record.metrics)
    return [record for record in told if UNPACKED not in record.config]


def earlier_card(runs: Path) -> str:
    """The model card of the bundle that was unpacked into ``runs``, or nothing."""
    return (runs / CARD).read_text() if (runs / CARD).is_file() else ""


def _record(folder: Path) -> StageRecord:
    config = folder / "config.json"
    metrics = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines() if line] if metrics.is_file() else []
    return StageRecord(folder.name, _read_json(config) if config.is_file() else {}, rows)


def _llm_fingerprint(config: Mapping[str, Any]) -> str | None:
    """``nn.weights.weights_sha256`` of the LLM as the stage had it when it ended."""
    recorded = config.get("llm_weights_sha256") or config.get("llm_sha256")
    return recorded.get("after") if isinstance(recorded, Mapping) else recorded


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
