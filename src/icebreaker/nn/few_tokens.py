"""Decoder layers of Llama's kind for a few tokens at a time, in NumPy. Knows nothing of caches' owners or sampling.

A small model's step of one token is some hundred operations on a few hundred numbers: in torch, on a CPU, starting them
takes most of the time, and each gives up the interpreter's lock. NumPy starts one in a quarter of the time, and
whatever only scales (norms, the queries, half of the gate) is multiplied into the matrices beforehand. Keys and values
go straight into the cache's memory. Of a large model reading the weights takes the time, and nothing is to be gained.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

__all__ = ["FewTokens", "Layer", "Spots", "array_of", "fits", "multiply", "one_blas_thread", "pays", "root_mean_square"]

MOST_PARAMETERS = 60_000_000  # of larger models most of the time is reading weights
SINGLY = 3  # vectors up to so many are multiplied one by one: BLAS repacks the matrix for more

Array = NDArray[np.float32]


class Layer(NamedTuple):
    """One layer's weights, each matrix [in, out]."""

    attention_norm: Array  # [D]
    qkv: Array  # [D, (H + 2 * H_kv) * d]
    qkv_bias: Array | None
    out: Array  # [H * d, D]
    mlp_norm: Array  # [D]
    gate_up: Array  # [D, 2 * F]
    down: Array  # [F, D]


class Spots(NamedTuple):
    """Where tokens stand in a cache of several rows: each sees its own entry and all before.

    Attributes:
        keys, values: by layer, [B, H_kv, capacity, d]; they are written in place.
        rows: of each token; tokens of one row stand one after the other, in order.
        entries: of each token, which its keys and values become.
    """

    keys: Sequence[Array]
    values: Sequence[Array]
    rows: Sequence[int]
    entries: Sequence[int]


class FewTokens:
    """The layers of one model.

    Args:
        layers: in order.
        heads: of queries.
        kv_heads: of keys and values.
        eps: of the norms.
    """

    def __init__(self, layers: Sequence[Layer], heads: int, kv_heads: int, eps: float) -> None:
        self.heads, self.kv_heads, self.eps = heads, kv_heads, eps
        self.head_dim = layers[0].out.shape[0] // heads
        self.layers = [self._scaled(layer) for layer in layers]
        one_blas_thread()

    def __call__(self, x: Array, cos: Array, sin: Array, spots: Spots) -> Array:
        """Run the tokens through all layers.

        Args:
            x: [N, D].
            cos, sin: [N, d] rotations, the sine's first half negative (rotate-half convention).
            spots: of the tokens.

        Returns:
            [N, D], before the final norm.
        """
        count, turning, d = len(x), self.heads + self.kv_heads, self.head_dim
        cos, sin, half = cos[:, None], sin[:, None], d // 2
        together = _Together.of(spots) if count > 1 else None
        attended = np.empty((count, self.kv_heads, self.heads // self.kv_heads, d), np.float32)
        for index, layer in enumerate(self.layers):
            qkv = multiply(x / root_mean_square(x, self.eps), layer.qkv)
            if layer.qkv_bias is not None:
                qkv += layer.qkv_bias
            qkv = qkv.reshape(count, turning + self.kv_heads, d)
            straight = qkv[:, :turning]
            turned = np.concatenate((straight[..., half:], straight[..., :half]), axis=-1)
            turned *= sin
            turned += straight * cos
            keys, values = spots.keys[index], spots.values[index]
            for token, (row, entry) in enumerate(zip(spots.rows, spots.entries, strict=True)):
                keys[row, :, entry] = turned[token, self.heads :]
                values[row, :, entry] = qkv[token, turning:]
            query = turned[:, : self.heads].reshape(attended.shape)
            if together is None:
                for token, (row, entry) in enumerate(zip(spots.rows, spots.entries, strict=True)):
                    _attend(query[token], keys[row, :, : entry + 1], values[row, :, : entry + 1], None, attended[token])
            else:
                together.attend(query, keys, values, attended)
            x = x + multiply(attended.reshape(count, self.heads * d), layer.out)
            gate_up = multiply(x / root_mean_square(x, self.eps), layer.gate_up)
            gate, up = gate_up[:, : len(layer.down)], gate_up[:, len(layer.down) :]
            swished = np.tanh(gate)  # of half the gate: g * sigmoid(g) = g/2 * (1 + tanh(g/2)), which overflows nowhere
            swished += 1
            swished *= gate
            swished *= up
            x += multiply(swished, layer.down)
        return x

    def _scaled(self, layer: Layer) -> Layer:
        """The same layer without its factors: they are in the matrices."""
        queries, ffn = self.heads * self.head_dim, len(layer.down)
        qkv, gate_up = layer.qkv * layer.attention_norm[:, None], layer.gate_up * layer.mlp_norm[:, None]
        bias = None if layer.qkv_bias is None else layer.qkv_bias.copy()
        qkv[:, :queries] *= self.head_dim**-0.5
        if bias is not None:
            bias[:queries] *= self.head_dim**-0.5
        gate_up[:, :ffn] *= 0.5
        return layer._replace(qkv=qkv, qkv_bias=bias, gate_up=gate_up)


@functools.cache
def one_blas_thread() -> Any:
    """NumPy's BLAS would spread a hundredth of a millisecond's work over threads, which wait for more by spinning."""
    return ThreadpoolController().select(internal_api="openblas").limit(limits=1)  # it lasts: this is kept


class _Together(NamedTuple):
    """Rows that have one token each, attended to at once: neighbours in the cache, few idle ones among them."""

    slots: slice
    places: NDArray[np.int64]  # of the tokens within the slots
    read: int  # entries of the longest row
    mask: Array | None  # [b, 1, 1, read], 0 or minus infinity; None: all are equally long

    @classmethod
    def of(cls, spots: Spots) -> "_Together | None":
        """None where it would not pay, or cannot be."""
        rows, entries = np.asarray(spots.rows), np.asarray(spots.entries)
        first, stop = int(rows.min()), int(rows.max()) + 1
        if len(set(spots.rows)) < len(rows) or stop - first > 2 * len(rows):
            return None
        read = int(entries.max()) + 1
        if stop - first == len(rows) and (entries + 1 == read).all():
            return cls(slice(first, stop), rows - first, read, None)
        last = np.zeros(stop - first, np.int64)  # an idle row sees its first entry
        last[rows - first] = entries
        mask = np.where(np.arange(read) <= last[:, None], np.float32(0), np.float32(-np.inf))
        return cls(slice(first, stop), rows - first, read, mask[:, None, None])

    def attend(self, query: Array, keys: Array, values: Array, out: Array) -> None:
        """Of all tokens [N, H_kv, H / H_kv, d]."""
        asked = np.zeros((self.slots.stop - self.slots.start, *query.shape[1:]), np.float32)
        asked[self.places] = query
        found = np.empty_like(asked)
        _attend(asked, keys[self.slots, :, : self.read], values[self.slots, :, : self.read], self.mask, found)
        out[...] = found[self.places]


def _attend(query: Array, keys: Array, values: Array, mask: Array | None, out: Array) -> None:
    """Scaled queries [.., Q, d] over keys and values [.., K, d], into ``out`` [.., Q, d]."""
    scores = query @ keys.swapaxes(-1, -2)
    if mask is not None:
        scores += mask
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    np.matmul(scores, values, out=out)
    out /= np.add.reduce(scores, axis=-1, keepdims=True)


def multiply(x: Array, matrix: Array) -> Array:
    """[N, in] times [in, out]."""
    if not 1 < len(x) <= SINGLY:
        return x @ matrix
    product = np.empty((len(x), matrix.shape[1]), np.float32)
    for row, out in zip(x, product, strict=True):
        np.matmul(row, matrix, out=out)
    return product


def root_mean_square(x: Array, eps: float) -> Array:
    """[N, D] to [N, 1]: what RMSNorm divides by."""
    root: Array = np.sqrt(np.vecdot(x, x) / np.float32(x.shape[1]) + np.float32(eps))[:, None]
    return root


def fits(weight: Tensor) -> bool:
    """Whether a model with such a weight can be run so: on the CPU, in float32."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def pays(model: torch.nn.Module) -> bool:
    """Whether ``model`` is small enough."""
    return sum(parameter.numel() for parameter in model.parameters()) <= MOST_PARAMETERS


def array_of(weight: Tensor) -> Array:
    """The same memory."""
    array: Array = weight.detach().numpy()
    return array
