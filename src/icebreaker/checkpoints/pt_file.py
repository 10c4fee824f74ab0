"""Reads tensors out of ``.pt`` files that others made. Runs no code from them, knows no model.

A pickle can hold anything. Whatever is not a tensor or a plain container becomes an inert placeholder, so a training
checkpoint with an optimizer or a namespace beside its weights can be read, and a malicious one does nothing.
"""

import collections
import logging
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from icebreaker.errors import CheckpointError

__all__ = ["check_fit", "load_exactly", "read_pt", "rename", "tensors", "write_pt"]

logger = logging.getLogger(__name__)
SAFE_GLOBALS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    ("torch", "Size"): torch.Size,
}


def read_pt(path: Path) -> Mapping[str, Any]:
    """The mapping stored in ``path``, tensors on the CPU, as they lie in the file (possibly as strided views).

    Raises:
        CheckpointError: the file is missing, cut short, or no mapping of names.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a PyTorch checkpoint there")
    try:
        content = _load(path)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, BadZipFile, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a whole PyTorch checkpoint ({path.stat().st_size} bytes; {_first_line(error)}); "
            "was the download cut short, or is this a Git LFS pointer?"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a mapping of names to tensors, got {type(content).__name__}")
    return content


def tensors(content: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors of a flat state dict; other entries are passed over.

    Raises:
        CheckpointError: there are none.
    """
    found = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not found:
        names = ", ".join(sorted(map(str, content))[:5])
        raise CheckpointError(f"{where}: expected named tensors, got only {names or 'nothing'}")
    return found


def rename(weights: Mapping[str, Tensor], table: Mapping[str, str | None], where: str) -> dict[str, Tensor]:
    """``weights`` under our names; strict both ways.

    Args:
        weights: under their names.
        table: their name to ours; ``None``: may be there, is not used.
        where: names the file in errors.

    Raises:
        CheckpointError: a name is missing or unknown.
    """
    required = {theirs for theirs, ours in table.items() if ours is not None}
    missing, unexpected = sorted(required - weights.keys()), sorted(weights.keys() - table.keys())
    if missing or unexpected:
        raise CheckpointError(f"{where}: {_differences(missing, unexpected)}")
    return {ours: weights[theirs] for theirs, ours in table.items() if ours is not None}


def load_exactly(
    module: nn.Module, weights: Mapping[str, Tensor], where: str, names: Mapping[str, str] | None = None
) -> None:
    """Fill ``module`` with ``weights``: floats as float32, laid out as the module has them; all must match.

    A module built on the meta device gets the tensors themselves, so that big models are held once. Arguments and
    errors as for ``check_fit``.
    """
    check_fit(module, weights, where, names)
    laid_out = {name: _like(value, weights[name]) for name, value in module.state_dict().items()}
    module.load_state_dict(laid_out, assign=True)


def check_fit(
    module: nn.Module, weights: Mapping[str, Tensor], where: str, names: Mapping[str, str] | None = None
) -> None:
    """Compare names and shapes.

    Args:
        module: what is to be filled.
        weights: under the names of its ``state_dict``.
        where: names the file in errors.
        names: what the file calls a weight, where it is not our name.

    Raises:
        CheckpointError: names the first key that does not fit.
    """
    theirs = names or {}
    expected = module.state_dict()
    missing = sorted(theirs.get(name, name) for name in expected.keys() - weights.keys())
    unexpected = sorted(theirs.get(name, name) for name in weights.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(f"{where}: {_differences(missing, unexpected)}")
    for name, value in expected.items():
        if weights[name].shape != value.shape:
            raise CheckpointError(
                f"{where}: {theirs.get(name, name)} has shape {tuple(weights[name].shape)}, "
                f"the configuration asks for {tuple(value.shape)}"
            )


def write_pt(path: Path, content: Mapping[str, Any]) -> None:
    """Write aside and rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    try:
        torch.save(dict(content), aside)
        aside.replace(path)
    except (OSError, RuntimeError) as error:
        aside.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written: {error}; free some disk space") from error


def _like(expected: Tensor, value: Tensor) -> Tensor:
    """A copy of ``value`` with the strides of ``expected``: some layers choose them for speed."""
    dtype = torch.float32 if value.is_floating_point() else value.dtype
    return torch.empty_strided(expected.shape, expected.stride(), dtype=dtype).copy_(value.detach())


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        logger.info("%s holds more than tensors; reading it with placeholders for the rest", path)
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_TensorsOnly)


class _Placeholder:
    """Stands for an object that we do not rebuild."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None:
        """Swallow ``value``."""

    def extend(self, values: Any) -> None:
        """Swallow ``values``."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        if module == "torch" and name.endswith("Storage"):
            return getattr(torch, name)
        return SAFE_GLOBALS.get((module, name), _Placeholder)


class _TensorsOnly:
    """What ``torch.load`` needs of a pickle module."""

    __name__ = "icebreaker.checkpoints.pt_file"
    Unpickler = _Unpickler

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        """The whole content of ``file``."""
        return _Unpickler(file, **options).load()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]


def _differences(missing: list[str], unexpected: list[str]) -> str:
    kinds = (("missing", missing), ("unexpected", unexpected))
    parts = [f"{kind} {', '.join(_some(names))}" for kind, names in kinds if names]
    return f"these are not the weights the configuration describes: {'; '.join(parts)}"


def _some(names: list[str]) -> Iterator[str]:
    yield from names[:3]
    if len(names) > 3:
        yield f"and {len(names) - 3} more"
