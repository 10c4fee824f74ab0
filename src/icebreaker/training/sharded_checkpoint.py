"""Checkpoints that several processes write together and any number of them reads (``torch.distributed.checkpoint``).

A checkpoint of step n is the folder ``last-n``; its ``.metadata`` is written last, so a folder that has one is whole.
Every tensor stands under its parameter's name, so neither the number of processes nor the order of an optimizer's
groups matters. Read your own only: ``.metadata`` is a pickle.
"""

import io
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from icebreaker.errors import TrainingError
from icebreaker.training.processes import is_main, wait_for_all

__all__ = ["newest", "read", "remove_all_but", "step_of", "write"]

WHOLE = ".metadata"


def newest(folder: Path) -> Path | None:
    """The whole checkpoint of the latest step in ``folder``."""
    whole = [path for path in _all(folder) if (path / WHOLE).exists()]
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The step a checkpoint folder is of."""
    return int(checkpoint.name.removeprefix("last-"))


def remove_all_but(folder: Path, kept: Path | None) -> None:
    """Remove checkpoint folders, half ones too; the main process does."""
    wait_for_all()
    for path in _all(folder) if is_main() else ():
        if path != kept:
            (path / WHOLE).unlink(missing_ok=True)  # first: half removed is not whole
            shutil.rmtree(path, ignore_errors=True)
    wait_for_all()


def write(
    folder: Path, step: int, modules: Mapping[str, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer,
    names: Mapping[nn.Parameter, str], also: Mapping[str, Any],
) -> Path:  # fmt: skip
    """Write all processes' parts to ``folder/last-<step>``; earlier checkpoints stay.

    Args:
        folder: of the run.
        step: steps taken.
        modules: state of the trained parts, sharded or whole.
        optimizer: over the parameters of ``names``.
        names: of all trained parameters.
        also: whatever else is kept; the same in every process.

    Raises:
        TrainingError: it could not be written; what was there before is whole.
    """
    target = folder / f"last-{step}"
    state = _flat(modules, optimizer, names) | {f"also/{name}": _packed(value) for name, value in also.items()}
    try:
        state_dict_saver.save(dict(state), checkpoint_id=target)
    except (OSError, RuntimeError, CheckpointException) as error:
        raise TrainingError(
            f"{target}: could not save the checkpoint of step {step}: {error}; "
            "free some disk space and start again, the last saved checkpoint is whole"
        ) from error
    return target


def read(
    checkpoint: Path, modules: Mapping[str, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer,
    names: Mapping[nn.Parameter, str], also: Iterable[str],
) -> dict[str, Any]:  # fmt: skip
    """Fill ``modules`` and ``optimizer`` in place from ``checkpoint``, as they are sharded here; returns ``also``.

    Raises:
        TrainingError: it is damaged, or of another stage or model.
    """
    stored = _sizes(checkpoint)
    _begin_states(optimizer, names, stored)
    state = _flat(modules, optimizer, names)
    for name in also:
        state[f"also/{name}"] = torch.empty(stored.get(f"also/{name}", (0,)), dtype=torch.uint8)
    for name in sorted(stored.keys() | state.keys()):
        if name not in stored or name not in state or stored[name] != state[name].shape:
            raise _of_another(checkpoint, name)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that there may be one process only
            state_dict_loader.load(dict(state), checkpoint_id=checkpoint)
    except (OSError, RuntimeError, CheckpointException) as error:
        raise _damaged(checkpoint, error) from error
    return {
        name.removeprefix("also/"): torch.load(
            io.BytesIO(value.numpy().tobytes()), map_location="cpu", weights_only=True
        )
        for name, value in state.items()
        if name.startswith("also/")
    }


def _all(folder: Path) -> list[Path]:
    return [path for path in folder.glob("last-*") if re.fullmatch(r"last-\d+", path.name)]


def _flat(
    modules: Mapping[str, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]
) -> dict[str, Tensor]:
    found = {f"modules/{name}/{key}": value for name, state in modules.items() for key, value in state.items()}
    for parameter, name in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"optimizer/{name}/{key}"] = value
    return found


def _packed(value: Any) -> Tensor:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _sizes(checkpoint: Path) -> dict[str, torch.Size]:
    try:
        metadata = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
        return {name: tensor.size for name, tensor in metadata.items() if isinstance(tensor, TensorStorageMetadata)}
    except Exception as error:  # a damaged pickle may raise anything
        raise _damaged(checkpoint, error) from error


def _begin_states(
    optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str], stored: Mapping[str, torch.Size]
) -> None:
    """Give the optimizer the empty states, sharded as their parameters are, that ``stored`` will fill."""
    for parameter, name in names.items():
        for key in _states_of(name, stored):
            shared = stored[f"optimizer/{name}/{key}"] != parameter.shape  # the step: a plain number
            begun = torch.zeros(stored[f"optimizer/{name}/{key}"]) if shared else torch.zeros_like(parameter)
            optimizer.state[parameter][key] = begun.detach()


def _states_of(name: str, stored: Mapping[str, torch.Size]) -> Iterator[str]:
    prefix = f"optimizer/{name}/"
    yield from (key.removeprefix(prefix) for key in stored if key.startswith(prefix))


def _of_another(checkpoint: Path, name: str) -> TrainingError:
    return TrainingError(
        f"{checkpoint}: the checkpoint is of another stage or model: {name} is on one side only or of another shape"
    )


def _damaged(checkpoint: Path, error: BaseException) -> TrainingError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return TrainingError(f"{checkpoint}: not a whole checkpoint ({reason}); remove it to go on from an earlier one")
