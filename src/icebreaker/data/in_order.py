"""Work done by several threads, handed back in order, never far ahead of who takes it. Knows nothing of the work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["in_order"]

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """``work`` of every item, in the items' order.

    At most ``workers`` items are begun beyond those handed back, so little is lost when the caller stops; what ``work``
    raises is raised here when its item's turn comes.
    """
    waiting = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[R]] = deque(pool.submit(work, item) for item in islice(waiting, workers))
        try:
            while running:
                done = running.popleft().result()
                running.extend(pool.submit(work, item) for item in islice(waiting, 1))
                yield done
        finally:
            for future in running:
                future.cancel()
