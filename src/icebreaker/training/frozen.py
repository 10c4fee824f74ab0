"""Frozen means frozen: switch training off, and prove by hash that nothing moved."""

import contextlib
from collections.abc import Iterator

from torch import nn

from icebreaker.errors import TrainingError
from icebreaker.nn.weights import weights_sha256

__all__ = ["freeze", "stays_frozen"]


def freeze(module: nn.Module) -> nn.Module:
    """No gradient, eval mode; returns the module."""
    return module.requires_grad_(False).eval()


@contextlib.contextmanager
def stays_frozen(module: nn.Module, name: str) -> Iterator[str]:
    """Freeze ``module`` for the block and raise ``TrainingError`` if one bit of it has moved at the end."""
    freeze(module)
    before = weights_sha256(module)
    yield before
    after = weights_sha256(module)
    if before != after:
        raise TrainingError(f"{name} moved while it should have been frozen: {before[:12]} became {after[:12]}")
