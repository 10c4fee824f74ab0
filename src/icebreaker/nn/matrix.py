"""Weights that one vector or a few are multiplied by, on a CPU. Knows nothing of the model they come from.

Such products are bound by reading the weight, and BLAS lays the whole matrix out anew for a product of a few rows. A
weight that came in half precision is therefore also kept as FBGEMM packs it: half the bytes, in order, products and
sums in float32, so nothing is lost. One vector stays NumPy's, which starts sooner, and so does a weight that float16
cannot hold: two or three vectors are multiplied by it one by one. Of a large model, whose layers were packed when it
was loaded (``nn.packed``), there is no other copy.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from icebreaker.nn.packed import PackedLinear

__all__ = ["Matrix", "Product", "product_of"]

SINGLY = 3  # vectors up to so many are multiplied one by one where they are not multiplied by a packed weight
PACKED_FROM = 2  # vectors
PACKED_FROM_SMALL = 5  # of a stack that stays in a cache anyway
SMALL_STACK = 8 << 20  # bytes of all its weights in float32

Array = NDArray[np.float32]
Product = Callable[[Array], Array]  # [N, in] to [N, out]


class Matrix:
    """A weight [in, out] and a bias [out] or None, float32.

    ``stack_bytes`` is the size of all weights that are read before this one is read again.
    """

    def __init__(self, weight: Array, stack_bytes: int, bias: Array | None = None) -> None:
        rows = torch.from_numpy(np.ascontiguousarray(weight.T))
        exact = torch.equal(rows.half().float(), rows) and "fbgemm" in torch.backends.quantized.supported_engines
        self._packed = torch.ops.quantized.linear_prepack_fp16(rows, None) if exact else None
        self._packed_from = PACKED_FROM_SMALL if stack_bytes <= SMALL_STACK else PACKED_FROM
        self._plain, self._bias = np.ascontiguousarray(weight), bias

    def __call__(self, x: Array) -> Array:
        """[N, in] to [N, out]."""
        product = self._product(x)
        if self._bias is not None:
            product += self._bias
        return product

    def _product(self, x: Array) -> Array:
        if self._packed is not None and len(x) >= self._packed_from:
            return _together(x, self._packed)
        if not 1 < len(x) <= SINGLY:
            return x @ self._plain
        product: Array = np.empty((len(x), self._plain.shape[1]), np.float32)
        for row, out in zip(x, product, strict=True):
            np.matmul(row, self._plain, out=out)
        return product


def product_of(layers: Sequence[nn.Module], stack_bytes: int) -> Product:
    """What linear layers, packed or plain, make of the same input, side by side, biases included."""
    if len(layers) == 1 and isinstance(layers[0], PackedLinear):
        return _packed(layers[0])
    if any(isinstance(layer, PackedLinear) for layer in layers):
        products = [product_of([layer], stack_bytes) for layer in layers]
        return lambda x: np.concatenate([product(x) for product in products], axis=1)
    named = [dict(layer.named_parameters()) for layer in layers]
    weight = torch.cat([own["weight"].detach() for own in named]).numpy().T
    if not any("bias" in own for own in named):
        return Matrix(weight, stack_bytes)
    biases = [own.get("bias", torch.zeros(len(own["weight"]))).detach() for own in named]
    return Matrix(weight, stack_bytes, torch.cat(biases).numpy())


def _packed(layer: PackedLinear) -> Product:
    def product(x: Array) -> Array:
        found: Array = layer(torch.from_numpy(x)).numpy()
        return found

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
