"""Linear layers packed for a few rows on one CPU, inference only. Knows nothing of the models they come from.

A streaming step multiplies a handful of rows by every weight, so it is bound by reading weights; the plain product lays
them out anew at each call. Packed once, they are read in order. ``float16`` weights are half the bytes; products and
sums stay float32. Nothing is lost where float16 holds the weights, which it does for those stored in float16, and for
those stored in bfloat16 once a power of two has brought the largest near float16's own.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["PackedLinear", "held_by_half", "pack_linears"]

EXPECTED_ROWS = 4  # a hint to oneDNN, not a limit
LARGEST = 16  # the power of two that the largest weight is brought just below; float16 ends at 65504
BLOCK_ROWS = 64
UNSEEN = 2.0**-40  # of the largest weight: what float16 may miss, as all sums are rounded by some 2**-24


class PackedLinear(nn.Module):
    """What ``linear`` computes, from a packed copy of its weights; no gradient, no ``state_dict``."""

    def __init__(self, linear: nn.Linear, weights: Literal["float16", "float32"]) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float().contiguous()
        self._half = weights == "float16"
        self._scale = _scale(weight) if self._half else 1.0
        self._bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed: Any
        if self._half:
            self._packed = torch.ops.quantized.linear_prepack_fp16(weight * self._scale, self._bias)
        else:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, EXPECTED_ROWS)

    @property
    def nbytes(self) -> int:
        """Of the packed weights."""
        return (2 if self._half else 4) * self.in_features * self.out_features

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] float32 to [..., out_features]."""
        if self._half:
            x = x if self._scale == 1 else x / self._scale
            product: Tensor = torch.ops.quantized.linear_dynamic_fp16(x.contiguous(), self._packed)
        else:
            product = torch.ops.mkldnn._linear_pointwise(x.contiguous(), self._packed, self._bias, "none", [], "")
        return product


def held_by_half(weight: Tensor) -> bool:
    """Whether packing ``weight`` in float16 changes nothing that float32 sums would show."""
    weight = weight.detach().float()
    scale, least = _scale(weight), UNSEEN * _largest(weight)
    return all(bool(((rows * scale).half().float() / scale - rows).abs().max() <= least) for rows in _blocks(weight))


def _scale(weight: Tensor) -> float:
    """A power of two; 1 where float16 holds the weights as they are."""
    weight = weight.detach().float()
    if all(torch.equal(rows.half().float(), rows) for rows in _blocks(weight)):
        return 1.0
    return 2.0 ** (LARGEST - math.frexp(_largest(weight))[1])


def _largest(weight: Tensor) -> float:
    return max(abs(float(each)) for each in torch.aminmax(weight))


def _blocks(weight: Tensor) -> tuple[Tensor, ...]:
    """Some rows at a time: what is made of them on the way fits into the cache."""
    blocks: tuple[Tensor, ...] = weight.split(BLOCK_ROWS)
    return blocks


def pack_linears(
    module: nn.Module, weights: Literal["float16", "float32", "exact"] = "float16", keep: tuple[str, ...] = ()
) -> nn.Module:
    """Replace the ``nn.Linear`` layers in ``module``, in place, and return it.

    Args:
        module: on the CPU, never to be trained or saved again.
        weights: what the weights are rounded to; ``exact``: float16 where it holds them, other layers stay plain.
        keep: last name parts of layers to leave alone, because someone reads their ``weight``.

    Raises:
        ValueError: a layer is on another device, or this build of torch has no packed kernels.
    """
    if weights != "float32" and "fbgemm" not in torch.backends.quantized.supported_engines:
        if weights == "exact":
            return module
        raise ValueError("float16 packing needs FBGEMM, which this build of torch lacks; leave the model unpacked")
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.Linear) or name in keep:
                continue
            if child.weight.device.type != "cpu":
                raise ValueError(
                    f"packing is for the CPU, but {name} is on {child.weight.device}; move the model first"
                )
            if weights != "exact":
                setattr(parent, name, PackedLinear(child, weights))
            elif held_by_half(child.weight):
                setattr(parent, name, PackedLinear(child, "float16"))
    return module
