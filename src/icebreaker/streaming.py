"""Helpers for streaming state: NamedTuples of tensors, batch first. Knows nothing of models.

A state is a tensor, ``None``, or a (named) tuple of states. Every tensor has the batch as its first dimension.
A preallocated cache that is written in place past its ``length`` joins by a ``select_rows`` method of its own.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["put_row", "select", "take_row"]

State = TypeVar("State")


def select(active: Tensor, new: State, old: State) -> State:
    """Rows of ``new`` where ``active`` [B] is true, rows of ``old`` elsewhere: idle sessions stay as they were."""
    return _select(active, new, old)  # type: ignore[no-any-return]


def _select(active: Tensor, new: Any, old: Any) -> Any:
    if new is None:
        return None
    if isinstance(new, Tensor):
        return torch.where(active.view(-1, *[1] * (new.dim() - 1)), new, old)
    if hasattr(new, "select_rows"):
        return new.select_rows(active, old)
    rows = [_select(active, a, b) for a, b in zip(new, old, strict=True)]
    return type(new)(*rows) if hasattr(new, "_fields") else tuple(rows)


def take_row(state: State, index: int) -> State:
    """One row of a state, as a state of batch 1 (a copy)."""
    return _take_row(state, index)  # type: ignore[no-any-return]


def put_row(state: State, index: int, row: State) -> State:
    """``state`` with row ``index`` replaced by the only row of ``row``; the given state stays as it was."""
    return _put_row(state, index, row)  # type: ignore[no-any-return]


def _take_row(state: Any, index: int) -> Any:
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state[index : index + 1].clone()
    rows = [_take_row(each, index) for each in state]
    return type(state)(*rows) if hasattr(state, "_fields") else tuple(rows)


def _put_row(state: Any, index: int, row: Any) -> Any:
    if state is None:
        return None
    if isinstance(state, Tensor):
        state = state.clone()
        state[index] = row[0]
        return state
    rows = [_put_row(a, index, b) for a, b in zip(state, row, strict=True)]
    return type(state)(*rows) if hasattr(state, "_fields") else tuple(rows)
