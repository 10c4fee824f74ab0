"""The processes of one training run, as ``torchrun`` starts them. Knows nothing of models, steps or checkpoints.

Without ``torchrun`` there is one process: every function here then answers for it alone and costs nothing.
"""

import contextlib
import datetime
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from icebreaker.errors import TrainingError

__all__ = [
    "dealt", "gathered", "is_main", "main_first", "mean", "mean_tensor", "on_this_machine", "processes", "rank",
    "rows_of", "wait_for_all", "whole_rows", "world",
]  # fmt: skip

T = TypeVar("T")
PATIENCE = datetime.timedelta(hours=2)  # the main process may be writing the codes of all recordings
BACKENDS = "cpu:gloo,cuda:nccl"  # each tensor takes the way of where it lies


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Join the other processes of this run, if there are any, for the block.

    Raises:
        TrainingError: ``torchrun`` has started several, and they cannot find each other.
    """
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if torch.cuda.is_available():  # with more processes than GPUs those that want one are refused (``devices``)
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        dist.init_process_group(BACKENDS if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the {os.environ['WORLD_SIZE']} processes could not join ({error}); start them with torchrun, "
            "and on several machines with the same --rdzv-endpoint"
        ) from error
    try:
        yield
        wait_for_all()  # nobody leaves while another still writes or waits
    finally:
        dist.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def on_this_machine() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world() > 1 else 1


def is_main() -> bool:
    """Whether this process writes files and metrics."""
    return rank() == 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world() > 1:
        dist.barrier()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Let the main process go through the block alone, then all others: they find what it has made."""
    if not is_main():
        wait_for_all()
    yield
    if is_main():
        wait_for_all()


def gathered(value: T) -> list[T]:
    """``value`` of every process, by rank; small picklable ones only."""
    if world() == 1:
        return [value]
    values: list[T | None] = [None] * world()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def mean(figures: Mapping[str, float]) -> dict[str, float]:
    """Mean of every figure over the processes; one that a process does not have counts as 0 there."""
    everyone = gathered(dict(figures))
    names = dict.fromkeys(name for each in everyone for name in each)
    return {name: sum(each.get(name, 0.0) for each in everyone) / len(everyone) for name in names}


@torch.no_grad()
def mean_tensor(value: Tensor) -> Tensor:
    """Mean of ``value`` over the processes; without gradients."""
    if world() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world()


def dealt(batches_from: Callable[[int], Iterable[T]], first: int) -> Iterator[T]:
    """This process's share of a stream from number ``first`` on: of n processes the r-th has r, r + n, r + 2 n ...

    The stream is begun anew for each of them, so that no process makes the batches of another.
    """
    if world() == 1:
        yield from batches_from(first)
        return
    for number in itertools.count(first + rank(), world()):
        share = list(itertools.islice(batches_from(number), 1))
        if not share:
            return
        yield share[0]


def rows_of(rows: int) -> slice:
    """This process's rows of a batch that all of them divide, as many as any other's.

    Raises:
        TrainingError: they cannot be divided so.
    """
    if rows % world():
        raise TrainingError(
            f"batches of {rows} rows cannot be divided among {world()} processes; set rows to a multiple of {world()}"
        )
    return slice(rank(), None, world())


@torch.no_grad()
def whole_rows(own: Tensor) -> Tensor:
    """The batch [B, ..] whose rows ``rows_of`` are ``own`` [B / n, ..] in each of n processes; without gradients."""
    if world() == 1:
        return own
    parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(parts, own.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)
