"""Convolutions over time as matrix products, in NumPy. Knows nothing of streams or of codecs.

Frames lie one after the other in memory, [T, C], so the frames that one output needs are one stretch of it (of a
dilated convolution once every so-manieth frame has been put together). Stretches that begin ``taps`` frames apart do
not overlap and are the rows of a matrix as BLAS wants it: ``taps`` products, each of every so-manieth output, copy
nothing. Of few frames the stretches are copied side by side, and it is one product.

oneDNN, which torch asks, compiles a kernel for each number of frames of each layer; of chunks that are never as long as
the one before, that took more than half of the time. BLAS has one for all.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "FrameConv"]

Array = NDArray[np.float32]

CHANNELS_PER_ROW = 6  # of a product with fewer rows than a sixth of its channels, packing the weights takes the time
BIASES = 16  # side by side: a loop over 16 channels would be too short to be fast


class FrameConv:
    """One layer.

    Args:
        weight: [taps, C, O].
        bias: [O].
        dilation: frames from one tap to the next.
    """

    def __init__(self, weight: Array, bias: Array, dilation: int = 1) -> None:
        self.taps, self.channels, self.outputs = weight.shape
        self.dilation = dilation
        self.matrix = np.ascontiguousarray(weight, np.float32).reshape(self.taps * self.channels, self.outputs)
        self.biases = np.tile(bias.astype(np.float32), BIASES)

    @property
    def context(self) -> int:
        """Frames that an output needs before the newest one."""
        size: int = (self.taps - 1) * self.dilation
        return size

    def buffer(self, frames: int) -> Array:
        """For the context and as many new frames: [N, C], which the caller fills; what lies behind is zero."""
        rows = self._rows(frames)
        size = self.context + (rows * self.taps * self.dilation if rows else frames)
        buffer = np.empty((size, self.channels), np.float32)
        buffer[self.context + frames :] = 0
        return buffer

    def __call__(self, buffer: Array, frames: int) -> Array:
        """A filled ``buffer`` to [frames, O]."""
        y = self._products(buffer, rows)[:frames] if (rows := self._rows(frames)) else self._product(buffer, frames)
        together = math.gcd(frames, BIASES)
        wide = y.reshape(-1, together * self.outputs)  # the same memory
        wide += self.biases[: wide.shape[1]]
        return y

    def _rows(self, frames: int) -> int:
        """Of each of ``taps`` x ``dilation`` products; 0: one product is better."""
        rows = -(-frames // (self.taps * self.dilation))
        return rows if rows * CHANNELS_PER_ROW >= self.channels else 0

    def _product(self, buffer: Array, frames: int) -> Array:
        item, width = buffer.itemsize, self.channels
        steps = width * item, self.dilation * width * item, item
        stretches: Array = np.ndarray((frames, self.taps, width), np.float32, buffer, 0, steps)
        return stretches.reshape(frames, -1) @ self.matrix  # reshape copies

    def _products(self, buffer: Array, rows: int) -> Array:
        taps, dilation, item = self.taps, self.dilation, buffer.itemsize
        if dilation > 1:  # to [dilation, N / dilation, C]
            buffer = np.ascontiguousarray(buffer.reshape(-1, dilation, self.channels).swapaxes(0, 1))
        frame, place = self.channels * item, self.outputs * item
        y = np.empty((rows * taps * dilation, self.outputs), np.float32)
        steps = buffer.nbytes // dilation, frame, taps * frame, item
        stretches: Array = np.ndarray((dilation, taps, rows, taps * self.channels), np.float32, buffer, 0, steps)
        steps = place, dilation * place, taps * dilation * place, item
        places: Array = np.ndarray((dilation, taps, rows, self.outputs), np.float32, y, 0, steps)
        np.matmul(stretches, self.matrix, out=places)
        return y
