"""Idle rows stay as they were, in any nesting of states."""

from typing import NamedTuple

import torch
from torch import Tensor

from icebreaker.streaming import put_row, select, take_row


class Inner(NamedTuple):
    x: Tensor
    none: Tensor | None


class State(NamedTuple):
    layers: tuple[Inner, ...]
    count: Tensor


def state(value: float) -> State:
    inner = Inner(torch.full((3, 2, 2), value), None)
    return State((inner, inner), torch.full((3,), value))


def test_select_keeps_idle_rows() -> None:
    chosen = select(torch.tensor([True, False, True]), state(1.0), state(0.0))
    assert chosen.count.tolist() == [1.0, 0.0, 1.0]
    assert chosen.layers[1].x[:, 0, 0].tolist() == [1.0, 0.0, 1.0]
    assert chosen.layers[0].none is None


def test_rows_are_taken_and_put_back() -> None:
    before = state(0.0)
    after = put_row(before, 1, take_row(state(5.0), 2))
    assert after.count.tolist() == [0.0, 5.0, 0.0]
    assert after.layers[0].x[1].tolist() == [[5.0, 5.0], [5.0, 5.0]]
    assert before.count.tolist() == [0.0, 0.0, 0.0]
