"""Products are those of the weight as it is: packed where float16 holds it, plain where it does not."""

import numpy as np
import pytest
import torch
from torch import nn

from icebreaker.nn.matrix import SMALL_STACK, Matrix, product_of
from icebreaker.nn.packed import pack_linears

STACKS = [1, SMALL_STACK + 1]


@pytest.mark.parametrize("stack_bytes", STACKS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize("half", [False, True])
def test_it_multiplies(stack_bytes: int, count: int, half: bool) -> None:
    weight = np.random.default_rng(0).normal(0, 0.1, (24, 40)).astype(np.float16 if half else np.float32)
    x = np.random.default_rng(1).normal(0, 1, (count, 24)).astype(np.float32)
    threads = torch.get_num_threads()
    found = Matrix(weight.astype(np.float32), stack_bytes)(x)
    assert torch.get_num_threads() == threads
    np.testing.assert_allclose(found, x.astype(np.float64) @ weight, atol=1e-5)


@pytest.mark.parametrize("value", [1e5, 1e-9, 1 / 3])
def test_what_float16_cannot_hold_stays_as_it_is(value: float) -> None:
    weight = np.full((8, 8), value, np.float32)
    x = np.eye(8, dtype=np.float32)[:6]
    assert np.array_equal(Matrix(weight, SMALL_STACK + 1)(x), weight[:6])


def test_the_smallest_halves_are_kept() -> None:
    weight = np.full((8, 8), 2.0**-24, np.float32)
    x = np.eye(8, dtype=np.float32)[:6]
    assert np.array_equal(Matrix(weight, SMALL_STACK + 1)(x), weight[:6])


@pytest.mark.parametrize("packed", [[], [1], [0, 1, 2]])
@pytest.mark.parametrize("biased", [[], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_layers_side_by_side(packed: list[int], biased: list[int], count: int) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(24, width, bias=i in biased) for i, width in enumerate((16, 8, 8)))
    x = torch.randn(count, 24)
    for i in packed:
        layers[i].weight.data = layers[i].weight.data.bfloat16().float()
    with torch.no_grad():
        expected = torch.cat([layer(x) for layer in layers], dim=1)
    for i in packed:
        layers[i] = pack_linears(nn.Sequential(layers[i]), "exact")[0]
    found = product_of(list(layers), SMALL_STACK + 1)(x.numpy())
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
