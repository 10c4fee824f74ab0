"""Decoder layers of Llama's kind for a few tokens at a time, in NumPy. Knows nothing of caches' owners or sampling.

A small model's step of one token is some hundred operations on a few hundred numbers: in torch, on a CPU, starting them
takes most of the time, and each gives up the interpreter's lock. NumPy starts one in a quarter of the time. Keys and
values go straight into the cache's memory. Of a large model reading the weights takes the time, and nothing is to be
gained unless they are packed.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

from icebreaker.nn.matrix import Product
from icebreaker.nn.packed import PackedLinear

__all__ = ["FewTokens", "Layer", "Spots", "array_of", "fits", "norm", "one_blas_thread", "pays"]

MOST_PARAMETERS = 60_000_000  # of larger models most of the time is reading weights that nobody packed
HALF = np.float32(0.5)

Array = NDArray[np.float32]


class Layer(NamedTuple):
    """One layer's weights."""

    attention_norm: Array  # [D]
    qkv: Product  # [D, (H + 2 * H_kv) * d]
    out: Product  # [H * d, D]
    mlp_norm: Array  # [D]
    gate_up: Product  # [D, 2 * F]
    down: Product  # [F, D]


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
        head_dim: of each.
        eps: of the norms.
    """

    def __init__(self, layers: Sequence[Layer], heads: int, kv_heads: int, head_dim: int, eps: float) -> None:
        self.layers, self.heads, self.kv_heads, self.head_dim, self.eps = layers, heads, kv_heads, head_dim, eps
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
        cos, sin = cos[:, None], sin[:, None]
        count, turning, d = len(x), self.heads + self.kv_heads, self.head_dim
        half, scale = d // 2, np.float32(d**-0.5)
        together = (_OneRow.of(spots) or _Together.of(spots)) if count > 1 else None
        at: Any = spots.rows[0], slice(None), spots.entries[0]  # indexing by two numbers starts sooner than by lists
        if count > 1:
            at = np.asarray(spots.rows), slice(None), np.asarray(spots.entries)
        attended = np.empty((count, self.kv_heads, self.heads // self.kv_heads, d), np.float32)
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(norm(x, layer.attention_norm, self.eps)).reshape(count, turning + self.kv_heads, d)
            straight = qkv[:, :turning]
            turned = np.concatenate((straight[..., half:], straight[..., :half]), axis=-1)
            turned *= sin
            turned += straight * cos
            keys, values = spots.keys[index], spots.values[index]
            keys[at], values[at] = turned[:, self.heads :], qkv[:, turning:]
            query = (turned[:, : self.heads] * scale).reshape(attended.shape)
            if together is None:
                for token, (row, entry) in enumerate(zip(spots.rows, spots.entries, strict=True)):
                    _attend(query[token], keys[row, :, : entry + 1], values[row, :, : entry + 1], None, attended[token])
            else:
                together.attend(query, keys, values, attended)
            x = x + layer.out(attended.reshape(count, self.heads * d))
            gate_up = layer.gate_up(norm(x, layer.mlp_norm, self.eps))
            ffn = gate_up.shape[1] // 2
            gate, up = gate_up[:, :ffn], gate_up[:, ffn:]
            gate *= HALF
            swished = np.tanh(gate)  # g * sigmoid(g) = g/2 * (1 + tanh(g/2)), which overflows nowhere
            swished += 1
            swished *= gate
            swished *= up
            x += layer.down(swished)
        return x


@functools.cache
def one_blas_thread() -> Any:
    """NumPy's BLAS would spread a hundredth of a millisecond's work over threads, which wait for more by spinning."""
    return ThreadpoolController().select(internal_api="openblas").limit(limits=1)  # it lasts: this is kept


class _OneRow(NamedTuple):
    """Several tokens of one row, attended to at once: keys and values are read once for all of them."""

    row: int
    read: int  # entries of the row
    mask: Array  # [N, 1, read], 0 or minus infinity

    @classmethod
    def of(cls, spots: Spots) -> "_OneRow | None":
        """None where there are several rows."""
        if len(set(spots.rows)) > 1:
            return None
        entries, read = np.asarray(spots.entries), max(spots.entries) + 1
        mask = np.where(np.arange(read) <= entries[:, None], np.float32(0), np.float32(-np.inf))
        return cls(spots.rows[0], read, mask[:, None])

    def attend(self, query: Array, keys: Array, values: Array, out: Array) -> None:
        """Of all tokens [N, H_kv, H / H_kv, d]."""
        count, kv_heads, group, d = query.shape
        asked = query.swapaxes(0, 1).reshape(kv_heads, count * group, d)
        mask, found = np.broadcast_to(self.mask, (count, group, self.read)), np.empty_like(asked)
        mask = mask.reshape(count * group, self.read)
        _attend(asked, keys[self.row, :, : self.read], values[self.row, :, : self.read], mask, found)
        out[...] = found.reshape(kv_heads, count, group, d).swapaxes(0, 1)


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


def norm(x: Array, weight: Array, eps: float) -> Array:
    """RMSNorm of [N, D]."""
    normed: Array = x * weight
    squares = np.vecdot(x, x)
    squares /= x.shape[1]
    squares += eps
    normed /= np.sqrt(squares)[:, None]
    return normed


def fits(weight: Tensor) -> bool:
    """Whether a model with such a weight can be run so: on the CPU, in float32."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def pays(model: torch.nn.Module) -> bool:
    """Whether ``model`` is small enough, or its layers are packed."""
    if any(isinstance(module, PackedLinear) for module in model.modules()):
        return True
    return sum(parameter.numel() for parameter in model.parameters()) <= MOST_PARAMETERS


def array_of(weight: Tensor) -> Array:
    """The same memory."""
    array: Array = weight.detach().numpy()
    return array
