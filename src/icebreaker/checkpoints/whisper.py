"""Whisper's encoder from openai-whisper ``.pt`` files and Hugging Face folders, strictly; decoders are passed over."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from icebreaker.checkpoints.pt_file import read_pt, rename, tensors
from icebreaker.errors import CheckpointError
from icebreaker.models.llm_folder import weight_files
from icebreaker.models.whisper_encoder import WhisperConfig

__all__ = ["Whisper", "hugging_face_keys", "openai_keys", "read_whisper"]

ADVICE = "give an openai-whisper file such as large-v3.pt, or a Hugging Face Whisper folder"
OPENAI_BLOCK = {
    "attn.query": "query", "attn.key": "key", "attn.value": "value", "attn.out": "out",
    "attn_ln": "attention_norm", "mlp.0": "up", "mlp.2": "down", "mlp_ln": "mlp_norm",
}  # fmt: skip
HUGGING_FACE_BLOCK = {
    "self_attn.q_proj": "query", "self_attn.k_proj": "key", "self_attn.v_proj": "value", "self_attn.out_proj": "out",
    "self_attn_layer_norm": "attention_norm", "fc1": "up", "fc2": "down", "final_layer_norm": "mlp_norm",
}  # fmt: skip


class Whisper(NamedTuple):
    """An encoder's sizes and weights, under our names."""

    config: WhisperConfig
    weights: dict[str, Tensor]


def openai_keys(layers: int, prefix: str = "encoder.") -> dict[str, str | None]:
    """openai-whisper's names to ours."""
    return _keys(layers, prefix, "blocks", OPENAI_BLOCK, "positional_embedding", "ln_post")


def hugging_face_keys(layers: int, prefix: str = "model.encoder.") -> dict[str, str | None]:
    """Hugging Face's names to ours."""
    return _keys(layers, prefix, "layers", HUGGING_FACE_BLOCK, "embed_positions.weight", "layer_norm")


def read_whisper(path: Path) -> Whisper:
    """The encoder in ``path``: an openai-whisper file or a Hugging Face folder.

    Raises:
        CheckpointError: it is neither, damaged, or incomplete.
    """
    if path.is_dir():
        return _hugging_face(path)
    content = read_pt(path)
    dims, weights = content.get("dims"), content.get("model_state_dict")
    if not isinstance(dims, Mapping) or not isinstance(weights, Mapping):
        raise CheckpointError(f"{path}: expected 'dims' and 'model_state_dict' of openai-whisper; {ADVICE}")
    config = _config(path, dims, "n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer")
    found = {name: value for name, value in tensors(weights, str(path)).items() if name.startswith("encoder.")}
    return Whisper(config, rename(found, openai_keys(config.layers), str(path)))


def _hugging_face(folder: Path) -> Whisper:
    try:
        values = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: no readable config.json ({error}); {ADVICE}") from error
    if not isinstance(values, Mapping) or values.get("model_type") != "whisper":
        raise CheckpointError(f"{folder}: config.json is not that of a Whisper model; {ADVICE}")
    config = _config(
        folder, values, "num_mel_bins", "max_source_positions", "d_model", "encoder_attention_heads", "encoder_layers"
    )
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            weights |= load_file(file) if file.suffix == ".safetensors" else tensors(read_pt(file), str(file))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file}: not a whole safetensors file ({error}); {ADVICE}") from error
    prefix = "model.encoder." if any(name.startswith("model.") for name in weights) else "encoder."
    found = {name: value for name, value in weights.items() if name.startswith(prefix)}
    return Whisper(config, rename(found, hugging_face_keys(config.layers, prefix), str(folder)))


def _config(where: Path, values: Mapping[str, Any], *names: str) -> WhisperConfig:
    if missing := [name for name in names if not isinstance(values.get(name), int)]:
        raise CheckpointError(f"{where}: expected a number {missing[0]}, got {values.get(missing[0])!r}; {ADVICE}")
    mels, frames, width, heads, layers = (values[name] for name in names)
    try:
        return WhisperConfig(mels=mels, frames=frames, width=width, heads=heads, layers=layers)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _keys(
    layers: int, prefix: str, stack: str, block: Mapping[str, str], position: str, norm: str
) -> dict[str, str | None]:
    table: dict[str, str | None] = {prefix + position: "position"}
    for theirs, ours in (("conv1", "conv1"), ("conv2", "conv2"), (norm, "norm")):
        table |= {f"{prefix}{theirs}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")}
    for i in range(layers):
        for theirs, ours in block.items():
            kinds = ("weight",) if ours == "key" else ("weight", "bias")
            table |= {f"{prefix}{stack}.{i}.{theirs}.{kind}": f"blocks.{i}.{ours}.{kind}" for kind in kinds}
    return table
