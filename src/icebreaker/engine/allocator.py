"""Memory that is free is given back to the system, and caches of compiled kernels stay small. Knows no model.

Chunks of sound and of hidden states have another size every time. oneDNN compiles a kernel for each and keeps 1,024 of
them, several hundred megabytes; and glibc keeps what was freed between other things. The parts of a conversation know
each other, so only Python's collector frees it; that looks at everything only when a quarter more objects have come up
than there are, after some thousand conversations, and knows of their buffers nothing.
"""

import ctypes
import functools
import gc
import os
from collections.abc import Callable

__all__ = ["bound_caches", "give_back", "spare_collector"]

KERNELS = "128"  # of oneDNN


def bound_caches() -> None:
    """To be called before the first step of any model; whoever has set the limit himself keeps it."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)


def spare_collector() -> None:
    """What is there now, programs and models, stays: the collector need not look at it again. For a server's start."""
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Takes some 50 ms; only glibc takes memory back."""
    gc.collect()
    if (trim := _trim()) is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # TypeError: Windows
        return None
