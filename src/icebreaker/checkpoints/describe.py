"""What is in a bundle or an official folder: parts, parameters, bytes, hashes, card. Builds no module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from icebreaker.audio.whisper_mel import MAX_SECONDS
from icebreaker.checkpoints.bundle import WEIGHTS, is_bundle, load_weights, read_bundle_config
from icebreaker.checkpoints.families import AnyModel, part_names
from icebreaker.checkpoints.find import find_model
from icebreaker.checkpoints.freeze_omni import is_official, read_official
from icebreaker.checkpoints.llama_omni import is_llama_omni, read_llama_omni
from icebreaker.checkpoints.modules import ModelConfig
from icebreaker.config import to_mapping
from icebreaker.errors import CheckpointError
from icebreaker.models.codec import GeneratorConfig
from icebreaker.models.whisper_encoder import WhisperConfig
from icebreaker.nn.weights import tensors_sha256

__all__ = ["describe", "render"]


def describe(name: str | Path, *, speech_encoder: Path | None = None, vocoder: Path | None = None) -> dict[str, Any]:
    """Facts about the model ``name`` means, ready for JSON.

    Raises:
        CheckpointError: there is no such model, or it cannot be read.
    """
    folder = find_model(name)
    if is_llama_omni(folder):
        omni = read_llama_omni(folder, speech_encoder, vocoder)
        facts = _facts(folder, "official LLaMA-Omni checkpoint", omni.weights, omni.model)
        return facts | {"llm": None, "card": None}
    if is_bundle(folder):
        return _bundle(folder)
    if is_official(folder):
        official = read_official(folder)
        facts = _facts(folder, "official Freeze-Omni checkpoints", official.weights, official.model)
        return facts | {"llm": None, "card": None}
    raise CheckpointError(f"{folder}: neither a bundle nor the official checkpoints")


def render(description: Mapping[str, Any]) -> str:
    """``description`` for people."""
    lines = [f"{description['path']}: {description['kind']}", ""]
    lines += [f"  {'part':<12}{'parameters':>14}{'MB':>9}  sha256"]
    for name, part in description["parts"].items():
        lines.append(f"  {name:<12}{part['parameters']:>14,}{part['bytes'] / 1e6:>9.1f}  {part['sha256'][:16]}")
    total = description["parameters"]
    lines += [f"  {'together':<12}{total:>14,}{sum(p['bytes'] for p in description['parts'].values()) / 1e6:>9.1f}", ""]
    rates = f"{description['frame_ms']:g} ms per LLM position while listening, {description['code_ms']:g} ms per code"
    lines += [f"  {rates}"]
    if llm := description["llm"]:
        where = "comes along" if llm["path"] else "given separately with --llm"
        lines += [f"  LLM {llm['name']} (width {llm['width']}, {where})", f"  sha256 {llm['sha256']}"]
    else:
        lines += [f"  LLM: {'inside' if 'LLaMA' in description['kind'] else 'given separately with --llm'}"]
    return "\n".join(lines) + (f"\n\n{description['card']}" if description["card"] else "")


def _bundle(folder: Path) -> dict[str, Any]:
    config = read_bundle_config(folder)
    weights = load_weights(folder / WEIGHTS)
    card = folder / config.card
    facts = _facts(folder, f"{config.family} bundle, format {config.format}", weights, config.model)
    return facts | {"llm": to_mapping(config.llm), "card": card.read_text() if card.is_file() else None}


def _parts(weights: Mapping[str, Tensor], model: AnyModel) -> dict[str, dict[str, Any]]:
    parts = {}
    for part in part_names(model):
        own = {name: value for name, value in weights.items() if name.startswith(f"{part}.")}
        parts[part] = {
            "parameters": sum(value.numel() for value in own.values()),
            "bytes": sum(value.nbytes for value in own.values()),
            "sha256": tensors_sha256(own),
        }
    return parts


def _facts(folder: Path, kind: str, weights: Mapping[str, Tensor], model: AnyModel) -> dict[str, Any]:
    parts = _parts(weights, model)
    frame_ms, sound = _rates(model)
    return {
        "path": str(folder),
        "kind": kind,
        "parts": parts,
        "parameters": sum(part["parameters"] for part in parts.values()),
        "frame_ms": frame_ms,
        "code_ms": 1000 * sound.hop_length / sound.sample_rate,
        "model": to_mapping(model),
    }


def _rates(model: AnyModel) -> tuple[float, GeneratorConfig]:
    """Milliseconds per LLM position while listening, and the sizes of what makes the sound."""
    if isinstance(model, ModelConfig):
        return 40.0 * (2 if model.adapter.kind == "subsampling" else 1), model.codec
    frame_ms = 1000 * MAX_SECONDS / model.encoder.frames if isinstance(model.encoder, WhisperConfig) else 40.0
    return frame_ms * model.adaptor.stride, model.vocoder
