"""What trains, to and from ``last.pt``, the checkpoint of one process. Knows nothing of steps or schedules."""

import contextlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from icebreaker.errors import TrainingError
from icebreaker.training.sharding import like

__all__ = ["load_trainable", "optimizer_like", "read_file", "trainable_state", "write_file"]


def write_file(state: Mapping[str, Any], path: Path) -> None:
    """Write aside and rename, so that a full disk or a kill never leaves half a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(path.suffix + ".partial")
    try:
        torch.save(state, aside)
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise TrainingError(
            f"{path}: could not save the checkpoint of step {state['step']}: {error}; "
            "free some disk space and start again, the last saved checkpoint is whole"
        ) from error


def read_file(path: Path) -> dict[str, Any]:
    """The state that ``write_file`` wrote.

    Raises:
        TrainingError: it is damaged, or something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"{path}: not a whole checkpoint of a training run ({reason}); remove it to start over"
        ) from error
    if not isinstance(state, dict) or "optimizer" not in state:
        raise TrainingError(f"{path}: not a checkpoint of a training run; choose another output folder")
    return state


def trainable_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that train, and buffers."""
    frozen = _frozen_names(module)
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def load_trainable(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Fill ``module`` with what ``trainable_state`` gave, sharded as it is here."""
    expected = trainable_state(module)
    stored = state.keys() - _frozen_names(module)  # older checkpoints hold the second name of a frozen tied weight
    if wrong := sorted(expected.keys() ^ stored):
        raise TrainingError(f"the checkpoint of {name} does not fit the model: {wrong[0]} is on one side only")
    with torch.no_grad():
        for key, value in expected.items():
            if value.shape != state[key].shape:
                raise TrainingError(f"{name}.{key}: expected shape {tuple(value.shape)}, got {tuple(state[key].shape)}")
            value.copy_(like(state[key], value))


def optimizer_like(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's whole ``state``, sharded as the parameters of ``optimizer`` are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {
        index: {
            key: like(value, parameters[index]) if value.shape == parameters[index].shape else value
            for key, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": moments}


def _frozen_names(module: nn.Module) -> set[str]:
    """Both names of tied weights are among them."""
    return {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
