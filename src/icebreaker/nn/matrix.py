"""A weight that one vector or a few are multiplied by, on a CPU. Knows nothing of the model it comes from.

Such products are bound by reading the weight, and BLAS lays the whole matrix out anew for a product of a few rows. A
weight that came in half precision is therefore also kept as FBGEMM packs it: half the bytes, in order, products and
sums in float32, so nothing is lost. One vector stays NumPy's, which starts sooner, and so does a weight that float16
cannot hold: two or three vectors are multiplied by it one by one.
"""

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Matrix"]

SINGLY = 3  # vectors up to so many are multiplied one by one where they are not multiplied by a packed weight
PACKED_FROM = 2  # vectors
PACKED_FROM_SMALL = 5  # of a stack that stays in a cache anyway
SMALL_STACK = 8 << 20  # bytes of all its weights in float32

Array = NDArray[np.float32]


class Matrix:
    """A weight [in, out], float32; ``stack_bytes`` is the size of all that are read before it is read again."""

    def __init__(self, weight: Array, stack_bytes: int) -> None:
        rows = torch.from_numpy(np.ascontiguousarray(weight.T))
        exact = torch.equal(rows.half().float(), rows) and "fbgemm" in torch.backends.quantized.supported_engines
        self._packed = torch.ops.quantized.linear_prepack_fp16(rows, None) if exact else None
        self._packed_from = PACKED_FROM_SMALL if stack_bytes <= SMALL_STACK else PACKED_FROM
        self._plain = np.ascontiguousarray(weight)

    def __call__(self, x: Array) -> Array:
        """[N, in] to [N, out]."""
        if self._packed is not None and len(x) >= self._packed_from:
            return _together(x, self._packed)
        if not 1 < len(x) <= SINGLY:
            return x @ self._plain
        product: Array = np.empty((len(x), self._plain.shape[1]), np.float32)
        for row, out in zip(x, product, strict=True):
            np.matmul(row, self._plain, out=out)
        return product


def _together(x: Array, packed: object) -> Array:
    """On one thread: a second one takes longer to wake than a few vectors, and on a busy machine it is waited for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        product: Array = torch.ops.quantized.linear_dynamic_fp16(torch.from_numpy(x), packed).numpy()
    finally:
        torch.set_num_threads(threads)
    return product
