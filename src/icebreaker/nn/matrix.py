"""A weight that one vector or a few are multiplied by, on a CPU. Knows nothing of the model it comes from.

Such a product is bound by reading the weight. One that came in half precision is therefore kept so and multiplied by
FBGEMM, in float32: half the bytes, nothing lost. Starting that costs more than starting NumPy, which stays the way for
weights that lie in a cache anyway, and for those that float16 cannot hold.
"""

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Matrix"]

SINGLY = 3  # vectors up to so many are multiplied one by one where nothing is packed: BLAS repacks the matrix for more
SMALL_STACK = 8 << 20  # bytes of all weights in float32: they stay in a cache, and packing pays for 5 vectors or more
SMALL_WEIGHT = 1 << 20  # bytes: of a larger stack, one vector takes as long to start as to multiply

Array = NDArray[np.float32]


class Matrix:
    """A weight [in, out], float32; ``stack_bytes`` is the size of all that are read before it is read again."""

    def __init__(self, weight: Array, stack_bytes: int) -> None:
        rows = torch.from_numpy(np.ascontiguousarray(weight.T))
        exact = torch.equal(rows.half().float(), rows) and "fbgemm" in torch.backends.quantized.supported_engines
        self._packed = torch.ops.quantized.linear_prepack_fp16(rows, None) if exact else None
        self._packed_from = 5 if stack_bytes <= SMALL_STACK else 2 if weight.nbytes <= SMALL_WEIGHT else 1
        self._plain = np.ascontiguousarray(weight) if not exact or self._packed_from > 1 else None

    def __call__(self, x: Array) -> Array:
        """[N, in] to [N, out]."""
        if self._plain is None or (self._packed is not None and len(x) >= self._packed_from):
            return _together(x, self._packed)
        if self._packed is not None or not 1 < len(x) <= SINGLY:
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
