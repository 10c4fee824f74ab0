"""What a stage leaves for the next: ``model.safetensors`` and ``config.json``. Knows nothing of how it was trained."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from icebreaker.checkpoints.weights_file import write_weights
from icebreaker.errors import CheckpointError, TrainingError
from icebreaker.training.processes import is_main
from icebreaker.training.sharding import whole_state

__all__ = ["has_part", "load_into", "save_stage", "stage_config"]

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_stage(folder: Path, modules: Mapping[str, nn.Module], config: Mapping[str, object]) -> None:
    """Write weights keyed ``<module>.<parameter>``, and the configuration they were made with.

    Both are written aside and renamed, the configuration last: a folder that has one holds a finished stage. Of several
    processes all have to call it, and the main one writes.

    Raises:
        TrainingError: they could not be written; what was there before is whole.
    """
    weights = {
        f"{name}.{key}": value.detach().contiguous().clone()
        for name, module in modules.items()
        for key, value in whole_state(module).items()
    }
    if not is_main():
        return
    asides = [folder / f"{name}.partial" for name in (WEIGHTS, CONFIG)]
    try:
        write_weights(weights, asides[0])
        asides[1].write_text(json.dumps(config, indent=2) + "\n")
        for aside in asides:
            os.replace(aside, aside.with_suffix(""))
    except (OSError, SafetensorError) as error:
        for aside in asides:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
        raise TrainingError(
            f"{folder}: could not save the finished stage: {error}; free some disk space and run the stage again, "
            "it goes on from its last checkpoint"
        ) from error


def stage_config(folder: Path) -> dict[str, Any]:
    """The configuration a finished stage left in ``folder``."""
    try:
        values = json.loads((folder / CONFIG).read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no config.json; finish the stage that writes it first") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{folder / 'config.json'}: not JSON: {error}") from error
    return dict(values)


def has_part(folder: Path, name: str) -> bool:
    """Whether the stage in ``folder`` left ``<name>.*`` weights."""
    return any(key.startswith(f"{name}.") for key in _weights(folder))


def load_into(module: nn.Module, folder: Path, name: str) -> None:
    """Fill ``module`` from the ``<name>.*`` weights of ``folder``, strictly."""
    path, weights = folder / WEIGHTS, _weights(folder)
    found = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    expected = module.state_dict()
    if wrong := sorted(expected.keys() ^ found.keys()):
        raise CheckpointError(f"{path}: {name}.{wrong[0]} is on one side only; was it trained with this configuration?")
    for key, value in expected.items():
        if value.shape != found[key].shape:
            raise CheckpointError(f"{path}: {name}.{key} is {tuple(found[key].shape)}, expected {tuple(value.shape)}")
    with torch.no_grad():
        module.load_state_dict(found)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    try:
        weights: dict[str, torch.Tensor] = load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot read the weights of an earlier stage: {error}") from error
    return weights
