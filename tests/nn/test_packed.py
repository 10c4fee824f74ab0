import pytest
import torch
from torch import nn

from icebreaker.nn.packed import PackedLinear, pack_linears


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 4, 9])
def test_float32_packing_changes_nothing(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(40, 24, bias=bias)
    x = torch.randn(2, rows, 40)
    torch.testing.assert_close(PackedLinear(linear, "float32")(x), linear(x).detach(), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("bias", [True, False])
def test_float16_packing_rounds_only_the_weights(bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(40, 24, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(linear.weight.half())  # as stored in half precision
    x = torch.randn(2, 4, 40).mT.contiguous().mT  # not contiguous
    torch.testing.assert_close(PackedLinear(linear, "float16")(x), linear(x).detach(), atol=1e-6, rtol=0.0)


def test_layers_are_replaced_in_place_but_those_to_keep() -> None:
    model = nn.Sequential()
    model.add_module("inner", nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    model.add_module("position", nn.Linear(4, 4))
    assert pack_linears(model, "float32", keep=("position",)) is model
    assert [type(module).__name__ for module in model.modules()] == [
        "Sequential",
        "Sequential",
        "PackedLinear",
        "ReLU",
        "Linear",
    ]


def test_a_layer_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="on meta; move the model first"):
        pack_linears(nn.Sequential(nn.Linear(2, 2, device="meta")), "float32")
