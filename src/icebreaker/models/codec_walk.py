"""The way of a stream through the codec's generator, and by how much each layer lags. Knows neither torch's tensors nor
NumPy's arrays: who walks brings the operations.

Convolutions look ahead; here each is shifted to look back only, which delays its output, and shorter paths wait for
longer ones. ``x`` at ``rate`` frames per code with ``delay`` holds, at index j, the frame at j - delay of those that
start with the first code of this call; who walks may leave out those before and after the segment (``mask``). Its axis
1 is the width. ``delay`` is always that of the ``x`` which is given.
"""

from typing import Any, Protocol, TypeVar

from torch import nn

from icebreaker.models.codec import Generator
from icebreaker.models.codec_layers import SLOPE, ResidualBlock1, ResidualBlock2

__all__ = ["Walk", "walk"]

X = TypeVar("X", bound=Any)


class Walk(Protocol[X]):
    """One call's operations; each layer's newest inputs are taken from the state, and kept for the next call."""

    def mask(self, x: X, rate: int, delay: int) -> X:
        """Zero what lies outside the segment, in place."""

    def conv(self, x: X, conv: nn.Conv1d, slope: float, rate: int, delay: int) -> X:
        """Leaky ReLU of ``slope`` (1: none) and a convolution, shifted to look back only."""

    def upsample(self, x: X, conv: nn.ConvTranspose1d, slope: float, rate: int, delay: int) -> X:
        """Leaky ReLU and a transposed convolution."""

    def add(self, y: X, x: X, frames: int, rate: int, delay: int) -> X:
        """``y``, of which nobody else knows, and ``x`` of ``frames`` earlier."""


def walk(now: Walk[X], generator: Generator, x: X, voice: X | None) -> tuple[X, int]:
    """Latents, which are written to, and what is added as a voice (or None) to sound before its tanh, of width 1.

    Also returns by how many samples it lags.
    """
    rate = 1
    x = now.mask(x, rate, 0)
    x, delay = _conv(now, x, generator.conv_pre, 1.0, rate, 0)
    x = now.mask(x, rate, delay)
    if generator.frame_block is not None:
        x, delay = _block(now, x, generator.frame_block, rate, delay)
    for stage, up in enumerate(generator.ups):
        assert isinstance(up, nn.ConvTranspose1d)
        factor = up.stride[0]
        x = now.upsample(x, up, SLOPE, rate, delay)
        rate, delay = rate * factor, delay * factor + int(up.padding[0])
        x, delay = _parallel(now, now.mask(x, rate, delay), generator.stage_blocks(stage), rate, delay)
        if voice is not None and x.shape[1] == generator.voice_dim:
            x = now.mask(x + voice, rate, delay)
    return _conv(now, x, generator.conv_post, generator.last_slope, rate, delay)


def _conv(now: Walk[X], x: X, conv: nn.Module, slope: float, rate: int, delay: int) -> tuple[X, int]:
    assert isinstance(conv, nn.Conv1d)
    return now.conv(x, conv, slope, rate, delay), delay + (conv.kernel_size[0] - 1) * conv.dilation[0] // 2


def _block(now: Walk[X], x: X, block: nn.Module, rate: int, delay: int) -> tuple[X, int]:
    """A residual block of either kind; ``x`` is masked, and so is the result."""
    for convs in _added(block):
        y, later = x, delay
        for index, conv in enumerate(convs):
            y, later = _conv(now, now.mask(y, rate, later) if index else y, conv, SLOPE, rate, later)
        x, delay = now.mask(now.add(y, x, later - delay, rate, delay), rate, later), later
    return x, delay


def _parallel(now: Walk[X], x: X, blocks: nn.ModuleList, rate: int, delay: int) -> tuple[X, int]:
    """The average of parallel residual blocks, each waiting for the slowest."""
    results = [_block(now, x, block, rate, delay) for block in blocks]
    last = max(range(len(results)), key=lambda index: results[index][1])
    total, slowest = results.pop(last)
    for y, later in results:
        total = now.add(total, y, slowest - later, rate, later)
    return total / len(blocks), slowest


def _added(block: nn.Module) -> list[tuple[nn.Module, ...]]:
    """The convolutions between one addition and the next."""
    if isinstance(block, ResidualBlock1):
        return list(zip(block.convs1, block.convs2, strict=True))
    assert isinstance(block, ResidualBlock2)
    return [(conv,) for conv in block.convs]
