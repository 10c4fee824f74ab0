"""Bundles out of other things: official checkpoints, or the outputs of training. Trains and runs nothing."""

from pathlib import Path
from typing import Literal

from transformers import AutoConfig

from icebreaker.checkpoints.assemble import assemble, is_runs
from icebreaker.checkpoints.bundle import BundleConfig, LLMReference, write_bundle
from icebreaker.checkpoints.freeze_omni import is_official, read_official
from icebreaker.checkpoints.official_config import read_audiollm_config
from icebreaker.config import load_toml
from icebreaker.dialogue.parts import DialogueSettings
from icebreaker.errors import CheckpointError
from icebreaker.models.llm_folder import folder_sha256

__all__ = ["convert"]

OFFICIAL_CARD = """# Freeze-Omni, converted

Weights of the official Freeze-Omni release (arXiv:2411.00774; github.com/VITA-MLLM/Freeze-Omni), in Icebreaker's bundle
format. They are not ours: the repository's licence allows academic, research and education use only, the model card
on the Hugging Face hub says Apache-2.0 with an acceptable-use policy; the two disagree, so check before any other use.

Figures: see the release. Nothing was measured at conversion.
"""


def convert(
    model: Path,
    out: Path,
    *,
    llm: Path | None = None,
    settings: Path | None = None,
    half: bool = False,
    embed_llm: bool = False,
) -> None:
    """Write the bundle ``out``.

    Args:
        model: the official checkpoints folder, or a folder of training runs such as ``runs/mini``.
        out: bundle folder to write.
        llm: Hugging Face folder of the frozen LLM; training runs may have their own.
        settings: TOML file of ``DialogueSettings``; only for training runs, official checkpoints bring their own.
        half: store weights in float16.
        embed_llm: copy the LLM into the bundle.

    Raises:
        CheckpointError: ``model`` is neither, is incomplete, or does not fit the LLM.
    """
    storage: Literal["float16", "float32"] = "float16" if half else "float32"
    if is_runs(model):
        chosen = None if settings is None else load_toml(settings, DialogueSettings)
        assemble(model, out, llm=llm, settings=chosen, storage=storage, embed_llm=embed_llm)
    elif is_official(model):
        _convert_official(model, out, llm, storage, embed_llm)
    else:
        raise CheckpointError(
            f"{model}: expected the official checkpoints (audiollm/, decoder/, codec/) or training runs (alignment/, "
            "spoken_qa/, codec/, codec_lm/ ...)"
        )


def _convert_official(
    model: Path, out: Path, llm: Path | None, storage: Literal["float16", "float32"], embed_llm: bool
) -> None:
    if llm is None:
        raise CheckpointError(f"{model}: its LLM's hash goes into the bundle; give the Hugging Face folder with --llm")
    expected, width = read_audiollm_config(model / "audiollm" / "train.yaml").adapter.llm_dim, _width(llm)
    if width != expected:
        raise CheckpointError(
            f"{llm} has width {width}, {model} was trained with an LLM of width {expected}; give that one"
        )
    official = read_official(model)
    reference = LLMReference(
        sha256=folder_sha256(llm), width=width, name=llm.name, path="llm" if embed_llm else None
    )  # fmt: skip
    config = BundleConfig(model=official.model, llm=reference, settings=official.settings)
    write_bundle(out, config, official.weights, OFFICIAL_CARD, storage=storage, llm_folder=llm)


def _width(llm: Path) -> int:
    try:
        return int(AutoConfig.from_pretrained(llm, local_files_only=True).get_text_config().hidden_size)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{llm}: not the folder of a Hugging Face causal LM: {error}") from error
