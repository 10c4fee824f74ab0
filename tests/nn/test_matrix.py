"""Products are those of the weight as it is: packed where float16 holds it, plain where it does not."""

import numpy as np
import pytest
import torch

from icebreaker.nn.matrix import SMALL_STACK, Matrix

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
