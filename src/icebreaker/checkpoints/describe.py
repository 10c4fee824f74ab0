"""What is in a bundle or an official folder: parts, parameters, bytes, hashes, card. Builds no module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from icebreaker.checkpoints.bundle import WEIGHTS, is_bundle, read_bundle_config
from icebreaker.checkpoints.find import find_model
from icebreaker.checkpoints.freeze_omni import is_official, read_official
from icebreaker.checkpoints.modules import PARTS, ModelConfig
from icebreaker.config import to_mapping
from icebreaker.errors import CheckpointError

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
        parts = _parts({name: (value.numel(), value.nbytes) for name, value in official.weights.items()})
        return _facts(folder, "official Freeze-Omni checkpoints", parts, official.model) | {"llm": None, "card": None}
    raise CheckpointError(f"{folder}: neither a bundle nor the official checkpoints")


def render(description: Mapping[str, Any]) -> str:
    """``description`` for people."""
    lines = [f"{description['path']}: {description['kind']}", ""]
    lines += [f"  {'part':<12}{'parameters':>14}{'MB':>9}"]
    for name, part in description["parts"].items():
        lines.append(f"  {name:<12}{part['parameters']:>14,}{part['bytes'] / 1e6:>9.1f}")
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
    sizes: dict[str, tuple[int, int]] = {}
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                value: Tensor = file.get_tensor(name)
                sizes[name] = (value.numel(), value.nbytes)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS}: not a whole safetensors file ({error}); copy or download it again"
        ) from error
    card = folder / config.card
    facts = _facts(folder, f"{config.family} bundle, format {config.format}", _parts(sizes), config.model)
    return facts | {"llm": to_mapping(config.llm), "card": card.read_text() if card.is_file() else None}


def _parts(sizes: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    parts = {}
    for part in PARTS:
        own = [size for name, size in sizes.items() if name.startswith(f"{part}.")]
        parts[part] = {"parameters": sum(size[0] for size in own), "bytes": sum(size[1] for size in own)}
    return parts


def _facts(folder: Path, kind: str, parts: Mapping[str, Mapping[str, int]], model: ModelConfig) -> dict[str, Any]:
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
