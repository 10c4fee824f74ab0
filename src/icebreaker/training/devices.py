"""Where a stage computes, and batches on their way there. Knows nothing of stages, models or losses.

Models are built, and their first weights drawn, on the CPU: they are the same everywhere.
"""

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor

from icebreaker.errors import ConfigError
from icebreaker.training.processes import on_this_machine, world

__all__ = ["check_device_name", "chosen_device", "device_of", "has_bfloat16", "moved", "named"]

T = TypeVar("T")


def check_device_name(name: str) -> None:
    """Raise ValueError unless ``name`` is "auto", "cpu", "cuda", or "cuda:N" with N from 0."""
    if name not in ("auto", "cpu", "cuda") and not (name.startswith("cuda:") and name[5:].isdecimal()):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N (the N-th GPU, from 0), got {name!r}")


def chosen_device(name: str) -> torch.device:
    """The device of this process that ``name`` stands for.

    Args:
        name: "auto", the process's own GPU where there is one, else the CPU; "cpu"; "cuda", its own GPU; or "cuda:N".

    Raises:
        ConfigError: there is no such GPU, or several processes would share one.
    """
    gpus = gpu_count()
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if not gpus:
        build = torch.version.cuda or "CPUs"
        raise ConfigError(
            f"device is {name!r}, but torch {torch.__version__} (built for {build}) sees no GPU; set device to 'auto' "
            "or 'cpu', or install the driver and a torch that fits it"
        )
    if on_this_machine() > gpus:
        raise ConfigError(
            f"{on_this_machine()} processes on a machine with {gpus} GPUs, and each takes one; start at most {gpus} "
            "there, or set device to 'cpu'"
        )
    own = own_gpu()
    if name in ("auto", "cuda"):
        return torch.device("cuda", own)
    number = int(name.removeprefix("cuda:"))
    if number >= gpus:
        raise ConfigError(
            f"device is {name!r}, but torch sees {gpus} GPUs, cuda:0 to cuda:{gpus - 1}; name one of them"
        )
    if world() > 1 and number != own:
        raise ConfigError(
            f"device is {name!r} for all of {world()} processes; set it to 'auto' or 'cuda': each takes its own GPU"
        )
    return torch.device("cuda", number)


def gpu_count() -> int:
    """How many GPUs torch sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def own_gpu() -> int:
    """The number of this process's own GPU, as ``processes`` has set it."""
    return torch.cuda.current_device()


def device_of(config: Any) -> torch.device:
    """The device of a stage's whole ``config``: under ``optim`` where it trains.

    Raises:
        ConfigError: as ``chosen_device``.
    """
    return chosen_device(getattr(config, "optim", config).device)


def named(device: torch.device) -> str:
    """For people: "cpu", or a GPU's number and what it is called."""
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` gains by bfloat16: a CPU without AVX-512 or SVE multiplies it a hundred times slower."""
    return device.type != "cpu" or not torch.backends.cpu.get_cpu_capability().startswith(("DEFAULT", "NO AVX", "AVX2"))


def moved(value: T, device: torch.device) -> T:
    """``value`` with all tensors in it on ``device``; itself where none has to move.

    Looked into are lists, tuples (named ones, too), dictionaries' values and dataclasses; all else stays as it is.
    """
    found: Any = value
    if isinstance(value, Tensor):
        found = value.to(device)
    elif isinstance(value, list | tuple):
        rows = [moved(row, device) for row in value]
        if any(new is not old for new, old in zip(rows, value, strict=True)):
            found = type(value)(*rows) if hasattr(value, "_fields") else type(value)(rows)
    elif isinstance(value, dict):
        found = {key: moved(each, device) for key, each in value.items()}
        found = found if any(found[key] is not each for key, each in value.items()) else value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        old = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        new = {name: each for name, each in moved(old, device).items() if each is not old[name]}
        found = dataclasses.replace(value, **new) if new else value
    return found  # type: ignore[no-any-return]
