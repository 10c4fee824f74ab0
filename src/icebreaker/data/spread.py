"""Work spread over threads here, or over the processes of one or of many machines by Ray Data. Knows nothing of it.

``Spread`` is what recipes take: ``here`` by default, ``on_ray`` for more. With Ray, work and items are pickled, so work
carries what is needed to load a model, not the model (``functools.cache`` keeps it in each process); paths have to mean
the same on every machine.

A worker that dies takes the items of its block with it; Ray gives the block to another, and results come out once, in
the items' order. So nobody loses or repeats an item who takes results as they come (a ``Journal``, a file that only the
caller writes), or whose work leaves files by name and makes none that is there already (``recording``).
"""

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from icebreaker.data.in_order import in_order
from icebreaker.errors import ConfigError, DataError, IcebreakerError
from icebreaker.extras import load_extra

__all__ = ["Spread", "here", "on_ray"]

T = TypeVar("T")
R = TypeVar("R")

BLOCKS_PER_CORE = 64  # what a worker does at a time, and does again when it dies, is this part of its share
TRIES = 5  # of a block whose workers die: an item that kills every worker must not keep them at it for ever


class Spread(Protocol):
    """How a recipe has its work done."""

    def __call__(
        self, work: Callable[[T], R], items: Iterable[T], workers: int = 1, *, gpus: float = 0.0
    ) -> Iterator[R]:
        """``work`` of every item, in the items' order; what it raises is raised here.

        Args:
            work: safe to be called by several threads.
            items: what it is given.
            workers: threads, where work stays in this process; a cluster takes as many as it has room for.
            gpus: that each worker of a cluster needs.
        """


def here(work: Callable[[T], R], items: Iterable[T], workers: int = 1, *, gpus: float = 0.0) -> Iterator[R]:
    """By threads of this process; ``gpus`` is the caller's business."""
    return in_order(work, items, workers)


def on_ray(address: str | None = None) -> Spread:
    """By Ray Data, on the cluster at ``address`` (``auto``, ``HOST:PORT``), or one of this machine's cores.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at ``address``.
    """
    ray, data = load_extra("ray", "dist"), load_extra("ray.data", "dist")
    if not ray.is_initialized():
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(
                f"no Ray cluster at {address!r}: {error}; start one with `ray start --head`, or leave the address out"
            ) from error
    logging.getLogger("ray.data").setLevel(logging.WARNING)

    def spread(work: Callable[[T], R], items: Iterable[T], workers: int = 1, *, gpus: float = 0.0) -> Iterator[R]:
        rows = [{"item": pickle.dumps(item)} for item in items]
        if not rows:
            return
        context = data.DataContext.get_current()
        context.enable_progress_bars, context.execution_options.preserve_order = False, True
        blocks = min(len(rows), BLOCKS_PER_CORE * max(1, int(ray.cluster_resources().get("CPU", 1))))
        made = data.from_items(rows, override_num_blocks=blocks).map(
            _row_of(work), num_gpus=gpus or None, max_retries=TRIES
        )
        try:
            for row in made.iter_rows():
                yield _result(pickle.loads(row["made"]))
        except ray.exceptions.RayError as error:
            why = next((line for line in reversed(str(error).splitlines()) if line.strip()), "")  # after a trace
            raise DataError(f"work on the Ray cluster failed: {why}; what is done is kept, run again") from error

    return spread


def _row_of(work: Callable[[T], R]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """``work`` for rows of pickles; our own errors are results, so that they arrive as they were raised."""

    def row_of(row: dict[str, Any]) -> dict[str, Any]:
        try:
            made: Any = work(pickle.loads(row["item"]))
        except IcebreakerError as error:
            made = _Raised(error)
        return {"made": pickle.dumps(made)}

    return row_of


class _Raised:
    """An error of ours on its way home."""

    def __init__(self, error: IcebreakerError) -> None:
        self.error = error


def _result(made: Any) -> Any:
    if isinstance(made, _Raised):
        raise made.error
    return made
