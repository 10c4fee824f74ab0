"""Bundles out of other things: official checkpoints, or the outputs of training. Trains and runs nothing."""

import tempfile
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoConfig

from icebreaker.checkpoints.assemble import assemble, is_runs
from icebreaker.checkpoints.assemble_omni import assemble_omni, is_omni_runs
from icebreaker.checkpoints.bundle import BundleConfig, LLMReference, write_bundle
from icebreaker.checkpoints.freeze_omni import is_official, read_official
from icebreaker.checkpoints.llama_omni import SETTINGS, build_llm, is_llama_omni, read_llama_omni
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


OMNI_CARD = """# LLaMA-Omni, converted

Weights of the official LLaMA-Omni release (arXiv:2409.06666; github.com/ictnlp/LLaMA-Omni), of Whisper's encoder and of
a unit vocoder, in Icebreaker's bundle format. They are not ours: the model may be used for academic research only, and
Llama 3.1 has a licence of its own.

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
    speech_encoder: Path | None = None,
    vocoder: Path | None = None,
) -> None:
    """Write the bundle ``out``.

    Args:
        model: the official checkpoints folder, or a folder of training runs such as ``runs/mini`` or
            ``runs/mini-llama-omni``.
        out: bundle folder to write.
        llm: Hugging Face folder of the frozen LLM; training runs may have their own.
        settings: TOML file of ``DialogueSettings``; only for training runs, official checkpoints bring their own.
        half: store weights in float16.
        embed_llm: copy the LLM into the bundle; LLaMA-Omni's, which has no folder of its own, always comes along.
        speech_encoder: Whisper file or folder, for official LLaMA-Omni checkpoints.
        vocoder: unit vocoder folder, for official LLaMA-Omni checkpoints.

    Raises:
        CheckpointError: ``model`` is neither, is incomplete, or does not fit the LLM.
    """
    storage: Literal["float16", "float32"] = "float16" if half else "float32"
    if is_runs(model) or is_omni_runs(model):
        put_together = assemble if is_runs(model) else assemble_omni
        chosen = None if settings is None else load_toml(settings, DialogueSettings)
        put_together(model, out, llm=llm, settings=chosen, storage=storage, embed_llm=embed_llm)
    elif is_llama_omni(model):
        _convert_llama_omni(model, out, speech_encoder, vocoder, storage)
    elif is_official(model):
        _convert_official(model, out, llm, storage, embed_llm)
    else:
        raise CheckpointError(
            f"{model}: expected the official checkpoints (audiollm/, decoder/, codec/; or LLaMA-Omni's folder) or "
            "training runs (alignment/, spoken_qa/, codec/, codec_lm/ ...; or speech_instruct/, unit_ctc/, "
            "unit_vocoder/)"
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


def _convert_llama_omni(
    model: Path, out: Path, speech_encoder: Path | None, vocoder: Path | None, storage: Literal["float16", "float32"]
) -> None:
    official = read_llama_omni(model, speech_encoder, vocoder)
    llm = build_llm(model, official, dtype=getattr(torch, storage))
    with tempfile.TemporaryDirectory(dir=out.parent if out.parent.is_dir() else None) as aside:
        llm.model.save_pretrained(aside)
        llm.tokenizer.save_pretrained(aside)
        reference = LLMReference(
            sha256=folder_sha256(Path(aside)), width=official.model.llm_dim, name=f"{model.name}'s Llama", path="llm"
        )
        config = BundleConfig(model=official.model, llm=reference, settings=SETTINGS, family="llama-omni")
        write_bundle(out, config, official.weights, OMNI_CARD, storage=storage, llm_folder=Path(aside))


def _width(llm: Path) -> int:
    try:
        return int(AutoConfig.from_pretrained(llm, local_files_only=True).get_text_config().hidden_size)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{llm}: not the folder of a Hugging Face causal LM: {error}") from error
