"""Puts the outputs of the training stages together into one bundle. Trains nothing, and takes only what fits.

    runs/mini/{backbone_daily/llm, alignment, spoken_qa, ngram, codec, codec_lm_prefix}  ->  bundle

LLaMA-Omni's stages are put together by ``assemble_omni``.
"""

from collections.abc import Mapping
from pathlib import Path

from icebreaker.checkpoints.bundle import BundleConfig, Storage, write_bundle
from icebreaker.checkpoints.card import model_card
from icebreaker.checkpoints.modules import LANGUAGE, PARTS, ModelConfig
from icebreaker.checkpoints.stage_folders import (
    Stage,
    check_one_llm,
    earlier_card,
    find_stage,
    llm_reference,
    read_stage,
    sizes_together,
    stage_records,
    weights_of,
)
from icebreaker.dialogue.parts import DialogueSettings
from icebreaker.duplex import DuplexConfig

__all__ = ["assemble", "is_runs"]

SOURCES = {
    "encoder": ("alignment",),
    "adapter": ("alignment",),
    "prompts": ("spoken_qa",),
    "turn_head": ("spoken_qa",),
    "codec": ("codec_more", "codec"),
    "codec_lm": ("codec_lm_prefix", "codec_lm"),  # the later stage where it was run
}
RUNS = (  # in the model card, where they are there
    "backbone_text", "backbone", "backbone_heard", "backbone_more", "backbone_daily", "encoder_ctc",
    "encoder_ctc_domain", "encoder_ctc_voices", "encoder_ctc_wide", "encoder_ctc_natural", "encoder_ctc_timbres",
    "encoder_ctc_asked", "adapter_ctc", "alignment_tokens", "alignment_wide", "alignment_sentences",
    "alignment_voices", "alignment_long", "alignment_revoiced", "alignment_deep", "alignment_noise", "alignment_mixed",
    "alignment", "spoken_qa", "ngram", "codec", "codec_more", "codec_lm", "codec_lm_prefix",
)  # fmt: skip
LLM_STAGES = ("backbone_daily", "backbone_more", "backbone_heard", "backbone")  # the later round where it was run


def is_runs(folder: Path) -> bool:
    """Whether ``folder`` holds the outputs of training stages."""
    return (folder / "alignment").is_dir() or (folder / "codec_lm").is_dir()


def assemble(
    runs: Path,
    out: Path,
    *,
    llm: Path | None = None,
    settings: DialogueSettings | None = None,
    storage: Storage = "float16",
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
    stages = {part: find_stage(runs, SOURCES[part], "configs/mini") for part in PARTS}
    if (counted := read_stage(runs / "ngram")) is not None:
        stages[LANGUAGE] = counted
    model = _model_config(stages)
    weights = weights_of(stages)
    check_one_llm(stages.values(), llm_folder)
    reference = llm_reference(llm_folder, model.llm_dim, embed=embed_llm)
    settings = settings or DialogueSettings(duplex=DuplexConfig(answer_silence=True))
    config = BundleConfig(model=model, llm=reference, settings=settings)
    card = model_card(name, stage_records(runs / stage for stage in RUNS), config, weights, earlier_card(runs))
    write_bundle(out, config, weights, card, storage=storage, llm_folder=llm_folder)


def _trained_llm(runs: Path) -> Path:
    folders = [runs / name / "llm" for name in LLM_STAGES]
    return next((folder for folder in folders if folder.is_dir()), folders[-1])


def _model_config(stages: Mapping[str, Stage]) -> ModelConfig:
    heard, judged = stages["encoder"], stages["turn_head"]
    values = {
        "encoder": heard.entry("encoder_config"),
        "adapter": heard.entry("adapter"),
        "codec_lm": stages["codec_lm"].entry("model"),
        "codec": stages["codec"].entry("model"),
        "prompts": {
            "prompts": heard.entry("prompts"),
            "tasks": heard.entry("tasks"),
            "turn_classes": judged.entry("classes"),
            "turn_hidden": judged.config.get("head_hidden", 0),
        },
    }
    if LANGUAGE in stages:
        values[LANGUAGE] = stages[LANGUAGE].entry(LANGUAGE)
    return sizes_together(ModelConfig, values)
