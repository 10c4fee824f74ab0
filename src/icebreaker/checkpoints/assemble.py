"""Puts the outputs of the training stages together into one bundle. Trains nothing, and takes only what fits.

    runs/mini/{backbone_heard/llm, alignment, spoken_qa, codec, codec_lm_prefix}  ->  bundle

Each stage folder holds ``model.safetensors``, keyed ``<part>.<parameter>``, and the ``config.json`` it was made with.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from icebreaker.checkpoints.bundle import BundleConfig, LLMReference, load_weights, write_bundle
from icebreaker.checkpoints.card import StageRecord, model_card
from icebreaker.checkpoints.modules import PARTS, ModelConfig
from icebreaker.config import from_mapping
from icebreaker.dialogue.parts import DialogueSettings
from icebreaker.duplex import DuplexConfig
from icebreaker.errors import CheckpointError, ConfigError
from icebreaker.models.llm import LLM
from icebreaker.models.llm_folder import folder_sha256
from icebreaker.nn.weights import weights_sha256

__all__ = ["assemble", "is_runs"]

logger = logging.getLogger(__name__)
SOURCES = {
    "encoder": ("alignment",),
    "adapter": ("alignment",),
    "prompts": ("spoken_qa",),
    "turn_head": ("spoken_qa",),
    "codec": ("codec",),
    "codec_lm": ("codec_lm_prefix", "codec_lm"),  # the later stage where it was run
}
RUNS = (  # in the model card, where they are there
    "backbone_text", "backbone", "backbone_heard", "encoder_ctc", "encoder_ctc_domain", "encoder_ctc_voices",
    "encoder_ctc_wide", "adapter_ctc", "alignment",
    "spoken_qa", "codec", "codec_lm", "codec_lm_prefix",
)  # fmt: skip
LLM_STAGES = ("backbone_heard", "backbone")  # the later round where it was run


class Stage(NamedTuple):
    """What a finished stage left."""

    folder: Path
    config: dict[str, Any]


def is_runs(folder: Path) -> bool:
    """Whether ``folder`` holds the outputs of training stages."""
    return (folder / "alignment").is_dir() or (folder / "codec_lm").is_dir()


def assemble(
    runs: Path,
    out: Path,
    *,
    llm: Path | None = None,
    settings: DialogueSettings | None = None,
    storage: Literal["float32", "float16", "bfloat16"] = "float16",
    embed_llm: bool = True,
    name: str = "Icebreaker mini",
) -> None:
    """Write the bundle ``out`` from the stage folders under ``runs``.

    Args:
        runs: folder of the stages, such as ``runs/mini``.
        out: where the bundle goes.
        llm: the frozen LLM; default: the last that stage ``backbone`` trained.
        settings: how the bundle is used unless its user says otherwise; default: the package's, and an answer also
            where the turn head of a small model stays undecided until a long silence.
        storage: floating-point type of the stored weights.
        embed_llm: whether the LLM comes along.
        name: title of the model card.

    Raises:
        CheckpointError: a stage is missing or unfinished, or two do not belong together.
    """
    llm_folder = llm or _trained_llm(runs)
    stages = {part: _stage(runs, names) for part, names in SOURCES.items()}
    model = _model_config(stages)
    weights: dict[str, Tensor] = {}
    for part in PARTS:
        path = stages[part].folder / "model.safetensors"
        found = {key: value for key, value in load_weights(path).items() if key.startswith(f"{part}.")}
        if not found:
            raise CheckpointError(f"{path}: expected weights named {part}.*, found none; run that stage again")
        weights |= found
    _check_one_llm(stages, llm_folder)
    reference = LLMReference(
        sha256=folder_sha256(llm_folder),
        width=model.adapter.llm_dim,
        name=llm_folder.parent.name if llm is None else llm_folder.name,
        path="llm" if embed_llm else None,
    )
    settings = settings or DialogueSettings(duplex=DuplexConfig(answer_silence=True))
    config = BundleConfig(model=model, llm=reference, settings=settings)
    card = model_card(name, [_record(runs / stage) for stage in RUNS if (runs / stage).is_dir()], config, weights)
    write_bundle(out, config, weights, card, storage=storage, llm_folder=llm_folder)


def _trained_llm(runs: Path) -> Path:
    folders = [runs / name / "llm" for name in LLM_STAGES]
    return next((folder for folder in folders if folder.is_dir()), folders[-1])


def _stage(runs: Path, names: tuple[str, ...]) -> Stage:
    for name in names:
        folder = runs / name
        if (folder / "model.safetensors").is_file() and (folder / "config.json").is_file():
            return Stage(folder, _read_json(folder / "config.json"))
    raise CheckpointError(
        f"{runs / names[0]}: no finished stage (model.safetensors and config.json) there; run "
        f"icebreaker train configs/mini/{names[-1]}.toml first"
    )


def _model_config(stages: Mapping[str, Stage]) -> ModelConfig:
    heard, judged = stages["encoder"], stages["turn_head"]
    values = {
        "encoder": _entry(heard, "encoder_config"),
        "adapter": _entry(heard, "adapter"),
        "codec_lm": _entry(stages["codec_lm"], "model"),
        "codec": _entry(stages["codec"], "model"),
        "prompts": {
            "prompts": _entry(heard, "prompts"),
            "tasks": _entry(heard, "tasks"),
            "turn_classes": _entry(judged, "classes"),
        },
    }
    try:
        return from_mapping(ModelConfig, values, "the stages together")
    except ConfigError as error:
        raise CheckpointError(f"{error}; were all stages made with the same sizes?") from error


def _entry(stage: Stage, name: str) -> Any:
    if name not in stage.config:
        raise CheckpointError(f"{stage.folder / 'config.json'}: expected an entry {name!r}; run that stage again")
    return stage.config[name]


def _check_one_llm(stages: Mapping[str, Stage], llm_folder: Path) -> None:
    """Every stage that used the LLM left its fingerprint; all must be that of the LLM in the bundle."""
    recorded = {stage.folder: sha256 for stage in stages.values() if (sha256 := _llm_fingerprint(stage.config))}
    if not recorded:
        return
    found = weights_sha256(LLM.load(llm_folder))
    for folder, sha256 in recorded.items():
        if sha256 != found:
            raise CheckpointError(
                f"{folder} was trained with an LLM of fingerprint {sha256[:16]}, {llm_folder} has {found[:16]}; "
                "train that stage again with this LLM"
            )


def _llm_fingerprint(config: Mapping[str, Any]) -> str | None:
    """``nn.weights.weights_sha256`` of the LLM as the stage had it when it ended."""
    recorded = config.get("llm_weights_sha256") or config.get("llm_sha256")
    return recorded.get("after") if isinstance(recorded, Mapping) else recorded


def _record(folder: Path) -> StageRecord:
    """What a stage says about itself; a stage without a configuration of its own gives only its metrics."""
    config = folder / "config.json"
    metrics = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines() if line] if metrics.is_file() else []
    return StageRecord(folder.name, _read_json(config) if config.is_file() else {}, rows)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
