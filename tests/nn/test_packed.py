import pytest
import torch
from torch import nn

from icebreaker.nn.packed import PackedLinear, held_by_half, pack_linears


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


def wide(dtype: torch.dtype) -> torch.Tensor:
    """Weights of thirty powers of two, as ``dtype`` holds them."""
    torch.manual_seed(0)
    return (torch.randn(24, 40) * 2.0 ** -torch.randint(0, 30, (24, 40))).to(dtype).float()


@pytest.mark.parametrize("factor", [2.0**-20, 1.0, 2.0**20])
def test_weights_that_bfloat16_holds_are_halved_without_loss(factor: float) -> None:
    linear = nn.Linear(40, 24, bias=False)
    linear.weight.data = wide(torch.bfloat16) * factor
    assert held_by_half(linear.weight)
    packed, units, largest = PackedLinear(linear, "float16"), torch.eye(40), float(linear.weight.detach().abs().max())
    assert packed.nbytes == 2 * 24 * 40
    torch.testing.assert_close(packed(units), linear.weight.detach().T, atol=2.0**-40 * largest, rtol=0)
    heavy = linear.weight.detach().abs() > 2.0**-30 * largest
    assert torch.equal(packed(units).T[heavy], linear.weight.detach()[heavy])


def test_what_float16_cannot_hold_is_known() -> None:
    weight = wide(torch.bfloat16)
    assert not held_by_half(wide(torch.float32))
    assert held_by_half(torch.full((2, 2), 2.0**-24))
    weight[0, 0] = weight.abs().max() * 2.0**-60  # so small beside the others that no sum would show it
    assert held_by_half(weight)
    weight[0, 0] = weight.abs().max() * (1 + 2.0**-11)
    assert not held_by_half(weight)
    assert held_by_half(torch.zeros(2, 2))


def test_only_what_loses_nothing_is_halved() -> None:
    model = nn.Sequential(nn.Linear(40, 24), nn.Linear(24, 40))
    model[0].weight.data = wide(torch.bfloat16)
    pack_linears(model, "exact")
    assert [type(layer) for layer in model] == [PackedLinear, nn.Linear]
