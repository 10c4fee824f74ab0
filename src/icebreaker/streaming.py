"""Helpers for streaming state: NamedTuples of tensors, batch first. Knows nothing of models.

A state is a tensor, ``None``, or a (named) tuple of states. Every tensor has the batch as its first dimension.
A preallocated cache that is written in place past its ``length`` joins by a ``select_rows`` method of its own.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["put_row", "put_rows", "select", "take_row", "take_rows"]

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


def take_rows(state: State, rows: Tensor) -> State:
    """The rows [n] of a state, as a state of batch n (a copy): work for a few of many sessions."""
    return _each(lambda tensor: tensor[rows], state)  # type: ignore[no-any-return]


def put_rows(state: State, rows: Tensor, new: State) -> State:
    """``state`` with its rows [n] replaced by those of ``new``; the given state stays as it was."""
    return _each(lambda old, row: old.index_copy(0, rows, row), state, new)  # type: ignore[no-any-return]


def _each(change: Callable[..., Tensor], *states: Any) -> Any:
    """``change`` of every tensor of states of one shape."""
    if states[0] is None:
        return None
    if isinstance(states[0], Tensor):
        return change(*states)
    parts = [_each(change, *pieces) for pieces in zip(*states, strict=True)]
    return type(states[0])(*parts) if hasattr(states[0], "_fields") else tuple(parts)


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
