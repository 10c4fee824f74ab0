"""What a stage leaves for the next: ``model.safetensors`` and ``config.json``. Knows nothing of how it was trained."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from icebreaker.errors import CheckpointError

__all__ = ["load_into", "save_stage", "stage_config"]


def save_stage(folder: Path, modules: Mapping[str, nn.Module], config: Mapping[str, object]) -> None:
    """Write weights keyed ``<module>.<parameter>``, and the configuration they were made with."""
    weights = {
        f"{name}.{key}": value.detach().contiguous().clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def stage_config(folder: Path) -> dict[str, Any]:
    """The configuration a finished stage left in ``folder``."""
    try:
        values = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no config.json; finish the stage that writes it first") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{folder / 'config.json'}: not JSON: {error}") from error
    return dict(values)


def load_into(module: nn.Module, folder: Path, name: str) -> None:
    """Fill ``module`` from the ``<name>.*`` weights of ``folder``, strictly."""
    path = folder / "model.safetensors"
    try:
        weights = load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot read the weights of an earlier stage: {error}") from error
    found = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    expected = module.state_dict()
    if wrong := sorted(expected.keys() ^ found.keys()):
        raise CheckpointError(f"{path}: {name}.{wrong[0]} is on one side only; was it trained with this configuration?")
    for key, value in expected.items():
        if value.shape != found[key].shape:
            raise CheckpointError(f"{path}: {name}.{key} is {tuple(found[key].shape)}, expected {tuple(value.shape)}")
    with torch.no_grad():
        module.load_state_dict(found)
