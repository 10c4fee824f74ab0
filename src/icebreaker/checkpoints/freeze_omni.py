"""Reads the official Freeze-Omni checkpoint folder (layout of VITA-MLLM/Freeze-Omni; arXiv:2411.00774).

    audiollm/{train.yaml, final.pt, global_cmvn}  decoder/{model.json, final.pt}  codec/{model.json, final.pt}
    server.json                                   the LLM is a Hugging Face folder of its own

Weights go through the key tables of ``audiollm_keys``, ``decoder_keys`` and ``codec_keys``, strictly.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from icebreaker.checkpoints.audiollm_keys import audiollm_key_table
from icebreaker.checkpoints.codec_keys import codec_config, codec_from_official
from icebreaker.checkpoints.decoder_keys import decoder_config, decoder_from_official
from icebreaker.checkpoints.modules import (
    ModelConfig,
    PromptsConfig,
    build_modules,
    check_width,
    fill_modules,
    parts_of,
)
from icebreaker.checkpoints.official_config import AudioLLMConfig, read_audiollm_config, read_cmvn, read_json
from icebreaker.checkpoints.official_settings import official_settings
from icebreaker.checkpoints.pt_file import read_pt, rename, tensors
from icebreaker.dialogue.parts import DialogueSettings, Parts
from icebreaker.errors import CheckpointError
from icebreaker.models.llm import LLM

__all__ = ["CMVN", "Official", "is_official", "load_official", "read_official"]

CMVN = {"encoder.global_cmvn.mean": "encoder.mean", "encoder.global_cmvn.istd": "encoder.istd"}
IGNORED = ("llm_decoder.", "prefix_embeddings.")  # the LLM itself, and vectors that nothing reads
OTHER_FAMILIES = {
    "model.speech_projector.": "LLaMA-Omni",
    "speech_generator.": "LLaMA-Omni",
    "model.layers.": "a text LLM",
    "transformer.h.": "a text LLM",
}


class Official(NamedTuple):
    """What an official folder holds, under our names."""

    model: ModelConfig
    weights: dict[str, Tensor]  # of all parts, as stored
    settings: DialogueSettings
    audiollm: AudioLLMConfig
    names: dict[str, str]  # our name of a weight to where it stands in the official folder


def is_official(folder: Path) -> bool:
    """Whether ``folder`` looks like an official checkpoint folder."""
    return (folder / "audiollm").is_dir()


def read_official(folder: Path) -> Official:
    """Read configurations and weights; nothing is built.

    Raises:
        CheckpointError: something is missing, damaged, or of another family.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; expected the official checkpoints (audiollm, decoder, codec)")
    audiollm = read_audiollm_config(folder / "audiollm" / "train.yaml")
    decoder_file, codec_file = folder / "decoder" / "model.json", folder / "codec" / "model.json"
    model = ModelConfig(
        encoder=audiollm.encoder,
        adapter=audiollm.adapter,
        prompts=PromptsConfig(prompts=audiollm.prompts, tasks=audiollm.tasks, turn_classes=audiollm.turn_classes),
        codec_lm=decoder_config(read_json(decoder_file), audiollm.adapter.llm_dim, str(decoder_file)),
        codec=codec_config(read_json(codec_file), str(codec_file)),
        chat="official",
    )
    weights = _audiollm_weights(folder / "audiollm", audiollm)
    path = folder / "decoder" / "final.pt"
    content = read_pt(path)
    content = content["model"] if isinstance(content.get("model"), Mapping) else content
    found = decoder_from_official(tensors(content, str(path)), model.codec_lm, str(path))
    weights |= {f"codec_lm.{name}": value for name, value in found.items()}
    path = folder / "codec" / "final.pt"
    found = codec_from_official(read_pt(path), model.codec, str(path))
    weights |= {f"codec.{name}": value for name, value in found.items()}
    settings = official_settings(folder / "server.json", audiollm.chat_template)
    return Official(model, weights, settings, audiollm, _names(model))


def load_official(
    folder: Path,
    llm_path: Path | None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Parts:
    """Build everything from an official folder and its LLM.

    Raises:
        CheckpointError: as ``read_official``; or there is no LLM, or one of another width.
    """
    if llm_path is None:
        raise CheckpointError(f"{folder}: official checkpoints bring no LLM; give its Hugging Face folder with --llm")
    official = read_official(folder)
    llm = LLM.load(llm_path, device, dtype)
    check_width(official.model.llm_dim, llm, str(folder))
    modules = build_modules(official.model)
    fill_modules(modules, official.weights, str(folder), official.names)
    return parts_of(official.model, modules, llm, official.settings, device=device, dtype=dtype)


def _audiollm_weights(folder: Path, config: AudioLLMConfig) -> dict[str, Tensor]:
    path = folder / "final.pt"
    content = read_pt(path)
    if family := next((name for mark, name in OTHER_FAMILIES.items() if _has(content, mark)), None):
        raise CheckpointError(
            f"{path}: these are weights of {family}, expected Freeze-Omni's encoder, adpter and predictor_head "
            f"(found {next(iter(content))})"
        )
    found = {name: value for name, value in tensors(content, str(path)).items() if not name.startswith(IGNORED)}
    if not config.prompts:
        found.pop("prompt_embeddings.weight", None)
    cmvn = CMVN.keys() <= found.keys()
    table = audiollm_key_table(config.encoder, config.adapter, prompts=config.prompts > 0, cmvn=cmvn)
    weights = rename(found, table, str(path))
    if not config.prompts:
        weights["prompts.prompt_embeddings.weight"] = torch.zeros(0, config.adapter.llm_dim)
    if not cmvn:
        weights["encoder.mean"], weights["encoder.istd"] = read_cmvn(folder / "global_cmvn", config.is_json_cmvn)
    return weights


def _names(model: ModelConfig) -> dict[str, str]:
    table = audiollm_key_table(model.encoder, model.adapter, prompts=model.prompts.prompts > 0, cmvn=True)
    return {ours: f"audiollm/final.pt: {theirs}" for theirs, ours in table.items() if ours is not None}


def _has(content: Mapping[str, Any], mark: str) -> bool:
    return any(str(name).startswith(mark) for name in content)
