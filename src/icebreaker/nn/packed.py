"""Linear layers packed for a few rows on one CPU, inference only. Knows nothing of the models they come from.

A streaming step multiplies a handful of rows by every weight, so it is bound by reading weights; the plain product lays
them out anew at each call. Packed once, they are read in order. ``float16`` weights are half the bytes; products and
sums stay float32, and a checkpoint stored in half precision loses nothing by it (but bfloat16 below 6e-5).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["PackedLinear", "pack_linears"]

EXPECTED_ROWS = 4  # a hint to oneDNN, not a limit


class PackedLinear(nn.Module):
    """What ``linear`` computes, from a packed copy of its weights; no gradient, no ``state_dict``."""

    def __init__(self, linear: nn.Linear, weights: Literal["float16", "float32"]) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float().contiguous()
        self._half = weights == "float16"
        self._bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed: Any
        if self._half:
            self._packed = torch.ops.quantized.linear_prepack_fp16(weight, self._bias)
        else:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, EXPECTED_ROWS)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] float32 to [..., out_features]."""
        if self._half:
            product: Tensor = torch.ops.quantized.linear_dynamic_fp16(x.contiguous(), self._packed)
        else:
            product = torch.ops.mkldnn._linear_pointwise(x.contiguous(), self._packed, self._bias, "none", [], "")
        return product


def pack_linears(
    module: nn.Module, weights: Literal["float16", "float32"] = "float16", keep: tuple[str, ...] = ()
) -> nn.Module:
    """Replace the ``nn.Linear`` layers in ``module``, in place, and return it.

    Args:
        module: on the CPU, never to be trained or saved again.
        weights: what the weights are rounded to.
        keep: last name parts of layers to leave alone, because someone reads their ``weight``.

    Raises:
        ValueError: a layer is on another device, or this build of torch has no packed kernels.
    """
    if weights == "float16" and "fbgemm" not in torch.backends.quantized.supported_engines:
        raise ValueError("float16 packing needs FBGEMM, which this build of torch lacks; leave the model unpacked")
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.Linear) or name in keep:
                continue
            if child.weight.device.type != "cpu":
                raise ValueError(
                    f"packing is for the CPU, but {name} is on {child.weight.device}; move the model first"
                )
            setattr(parent, name, PackedLinear(child, weights))
    return module
