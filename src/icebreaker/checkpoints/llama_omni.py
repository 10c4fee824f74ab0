"""Reads the official LLaMA-Omni layout (ictnlp/LLaMA-Omni; arXiv:2409.06666).

    Llama-3.1-8B-Omni/{config.json, *.safetensors (sharded or not), tokenizer*}   LLM, encoder, adaptor, generator
    large-v3.pt (or a Hugging Face Whisper folder)                                the encoder once more; it wins
    vocoder/{g_00500000, config.json}                                             fairseq's unit HiFi-GAN

Weights go through key tables, strictly.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from icebreaker.checkpoints.modules import fill_modules
from icebreaker.checkpoints.omni_modules import OmniModelConfig, build_omni_modules, omni_parts_of
from icebreaker.checkpoints.pt_file import read_pt, rename
from icebreaker.checkpoints.unit_ctc_keys import ADAPTOR_KEYS, unit_ctc_config, unit_ctc_from_official
from icebreaker.checkpoints.unit_vocoder_keys import unit_vocoder_config, unit_vocoder_from_official
from icebreaker.checkpoints.whisper import Whisper, openai_keys, read_whisper
from icebreaker.dialogue.parts import DialogueSettings, OmniParts
from icebreaker.duplex import DuplexConfig
from icebreaker.errors import CheckpointError
from icebreaker.models.chat import OMNI_SYSTEM
from icebreaker.models.llm import LLM
from icebreaker.models.llm_folder import read_tokenizer, weight_files
from icebreaker.models.speech_adaptor import SpeechAdaptorConfig

__all__ = ["SETTINGS", "LlamaOmni", "build_llm", "is_llama_omni", "load_llama_omni", "read_llama_omni"]

SPEAKING, SILENT = "omni_speech2s_llama", "omni_speech_llama"  # model types with and without a speech generator
ENCODER, ADAPTOR, GENERATOR = "model.speech_encoder.", "model.speech_projector.", "speech_generator."
VOCODER_FILE = "g_00500000"
SETTINGS = DialogueSettings(
    system=OMNI_SYSTEM,
    transcribe=False,  # there is no such prompt
    max_text_tokens=512,  # the official demo's
    duplex=DuplexConfig(answer_silence=True),  # nothing but silence tells it that a turn is over
)


class LlamaOmni(NamedTuple):
    """What the official layout holds, under our names."""

    model: OmniModelConfig
    weights: dict[str, Tensor]  # of all parts, as stored
    llm_config: dict[str, Any]
    llm_weights: dict[str, Tensor]  # under Hugging Face's names


def is_llama_omni(folder: Path) -> bool:
    """Whether ``folder`` looks like an official LLaMA-Omni checkpoint."""
    try:
        return json.loads((folder / "config.json").read_text()).get("model_type") in (SPEAKING, SILENT)
    except (OSError, ValueError, AttributeError):
        return False


def read_llama_omni(folder: Path, speech_encoder: Path | None, vocoder: Path | None) -> LlamaOmni:
    """Read configurations and weights; nothing is built.

    Args:
        folder: of the LLM checkpoint.
        speech_encoder: Whisper file or folder; None: the one that config.json names, beside ``folder``.
        vocoder: folder of the unit vocoder.

    Raises:
        CheckpointError: something is missing, damaged, or does not belong together.
    """
    where, values = folder / "config.json", _read_json(folder / "config.json")
    if values.get("model_type") != SPEAKING:
        raise CheckpointError(
            f"{where}: model_type {values.get('model_type')!r} has no speech generator; give a model that speaks, "
            f"{SPEAKING!r}"
        )
    if vocoder is None:
        raise CheckpointError(f"{folder}: LLaMA-Omni speaks through a unit vocoder; give its folder with --vocoder")
    weights = _tensors(folder)
    groups = {prefix: _take(weights, prefix) for prefix in (ENCODER, ADAPTOR, GENERATOR)}
    whisper = read_whisper(speech_encoder or _named_encoder(folder, values))
    if groups[ENCODER]:  # the same values; the file wins, but a checkpoint of another encoder must not pass
        rename(groups[ENCODER], openai_keys(whisper.config.layers, ""), f"{folder}: {ENCODER}*")
    generator = unit_ctc_config(values, str(where))
    units = unit_ctc_from_official(groups[GENERATOR], generator, f"{folder}: {GENERATOR}*")
    adaptor = rename(groups[ADAPTOR], ADAPTOR_KEYS, f"{folder}: {ADAPTOR}*")
    vocoder_config = unit_vocoder_config(_read_json(vocoder / "config.json"), str(vocoder / "config.json"))
    sound = unit_vocoder_from_official(
        read_pt(vocoder / VOCODER_FILE), vocoder_config, str(vocoder / VOCODER_FILE)
    )  # fmt: skip
    try:
        model = OmniModelConfig(
            encoder=whisper.config,
            adaptor=_adaptor_config(values, whisper, adaptor),
            unit_ctc=generator,
            vocoder=vocoder_config,
            chat="llama-omni",
        )
    except ValueError as error:
        raise CheckpointError(f"{folder}, {vocoder}: {error}") from error
    parts = {"encoder": whisper.weights, "adaptor": adaptor, "unit_ctc": units, "vocoder": sound}
    named = {f"{part}.{name}": value for part, own in parts.items() for name, value in own.items()}
    return LlamaOmni(model, named, values, weights)


def load_llama_omni(
    folder: Path,
    speech_encoder: Path | None,
    vocoder: Path | None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> OmniParts:
    """Build everything from the official layout.

    Raises:
        CheckpointError: as ``read_llama_omni``.
    """
    official = read_llama_omni(folder, speech_encoder, vocoder)
    llm = build_llm(folder, official, device, dtype)
    modules = build_omni_modules(official.model)
    fill_modules(modules, official.weights, str(folder))
    return omni_parts_of(official.model, modules, llm, SETTINGS, device=device, dtype=dtype)


def build_llm(
    folder: Path, official: LlamaOmni, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> LLM:
    """The Llama inside the checkpoint.

    Raises:
        CheckpointError: a tensor is missing or unexpected, or there is no tokenizer.
    """
    config = LlamaConfig.from_dict({**official.llm_config, "model_type": "llama", "architectures": None})
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    expected = set(model.state_dict())
    if config.tie_word_embeddings and "lm_head.weight" not in official.llm_weights:
        expected -= {"lm_head.weight"}
    rename(official.llm_weights, {name: name for name in expected}, str(folder))
    for name, value in model.state_dict().items():
        if name in expected and value.shape != official.llm_weights[name].shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {tuple(official.llm_weights[name].shape)}, config.json asks for "
                f"{tuple(value.shape)}"
            )
    stored = {name: value.to(dtype) for name, value in official.llm_weights.items()}
    model.load_state_dict(stored, strict=len(expected) == len(model.state_dict()), assign=True)
    model.tie_weights()
    model.model.rotary_emb = LlamaRotaryEmbedding(config)  # its frequencies are in no file
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return LLM(model.to(device), read_tokenizer(folder, config))


def _adaptor_config(
    values: Mapping[str, Any], whisper: Whisper, weights: Mapping[str, Tensor]
) -> SpeechAdaptorConfig:  # fmt: skip
    if values.get("speech_projector_type") != "linear" or "whisper" not in str(values.get("speech_encoder_type")):
        raise ValueError("expected speech_projector_type 'linear' and a speech_encoder_type that is Whisper's")
    if values.get("speech_encoder_hidden_size") != whisper.config.width:
        raise ValueError(
            f"config.json asks for an encoder of width {values.get('speech_encoder_hidden_size')}, the one given has "
            f"{whisper.config.width}; give the Whisper that this model was trained with"
        )
    return SpeechAdaptorConfig(
        encoder_dim=whisper.config.width,
        llm_dim=values["hidden_size"],
        stride=values["speech_encoder_ds_rate"],
        hidden=len(weights["linear1.bias"]),
    )


def _named_encoder(folder: Path, values: Mapping[str, Any]) -> Path:
    """The path in config.json is relative to the official working directory, where ``folder`` lies."""
    named = folder.parent / str(values.get("speech_encoder"))
    if not named.exists():
        raise CheckpointError(
            f"{folder}: config.json names the speech encoder {values.get('speech_encoder')}, which is not beside it; "
            "give the Whisper file or folder with --speech-encoder"
        )
    return named


def _take(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Move the tensors under ``prefix`` out of ``weights``, the prefix stripped."""
    return {name.removeprefix(prefix): weights.pop(name) for name in list(weights) if name.startswith(prefix)}


def _tensors(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            weights |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file}: not a whole safetensors file ({error}); download it again") from error
    return weights


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; expected the configuration there") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
