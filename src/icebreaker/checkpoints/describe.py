"""What is in a bundle or an official folder: parts, parameters, bytes, hashes, card. Builds no module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from icebreaker.checkpoints.bundle import WEIGHTS, is_bundle, load_weights, read_bundle_config
from icebreaker.checkpoints.find import find_model
from icebreaker.checkpoints.freeze_omni import is_official, read_official
from icebreaker.checkpoints.modules import PARTS, ModelConfig
from icebreaker.config import to_mapping
from icebreaker.errors import CheckpointError
from icebreaker.nn.weights import tensors_sha256

__all__ = ["describe", "render"]


def describe(name: str | Path) -> dict[str, Any]:
    """Facts about the model ``name`` means, ready for JSON.

    Raises:
        CheckpointError: there is no such model, or it cannot be read.
    """
    folder = find_model(name)
    if is_bundle(folder):
        return _bundle(folder)
    if is_official(folder):
        official = read_official(folder)
        facts = _facts(folder, "official Freeze-Omni checkpoints", _parts(official.weights), official.model)
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
        lines += ["  LLM: given separately with --llm"]
    return "\n".join(lines) + (f"\n\n{description['card']}" if description["card"] else "")


def _bundle(folder: Path) -> dict[str, Any]:
    config = read_bundle_config(folder)
    weights = load_weights(folder / WEIGHTS)
    card = folder / config.card
    facts = _facts(folder, f"{config.family} bundle, format {config.format}", _parts(weights), config.model)
    return facts | {"llm": to_mapping(config.llm), "card": card.read_text() if card.is_file() else None}


def _parts(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    parts = {}
    for part in PARTS:
        own = {name: value for name, value in weights.items() if name.startswith(f"{part}.")}
        parts[part] = {
            "parameters": sum(value.numel() for value in own.values()),
            "bytes": sum(value.nbytes for value in own.values()),
            "sha256": tensors_sha256(own),
        }
    return parts


def _facts(folder: Path, kind: str, parts: Mapping[str, Mapping[str, Any]], model: ModelConfig) -> dict[str, Any]:
    stride = 2 if model.adapter.kind == "subsampling" else 1
    return {
        "path": str(folder),
        "kind": kind,
        "parts": parts,
        "parameters": sum(part["parameters"] for part in parts.values()),
        "frame_ms": 40.0 * stride,
        "code_ms": 1000 * model.codec.hop_length / model.codec.sample_rate,
        "model": to_mapping(model),
    }
