"""A few codes of one row to sound, in NumPy, on a CPU. Knows nothing of batches.

What ``codec_stream`` does in torch, with the same state. Most layers see few frames: there torch takes its slow ways,
or has kernels compiled that no other length can use, see ``nn/frame_conv.py``. Rows are made one after the other, so
nobody is padded to anybody's length.
"""

import numpy as np
from torch import nn

from icebreaker.models.codec import Generator
from icebreaker.models.codec_walk import walk
from icebreaker.nn.few_tokens import array_of, fits, one_blas_thread
from icebreaker.nn.frame_conv import Array, FrameConv

__all__ = ["FewCodes", "few_codes_of"]

MOST_MULTIPLICATIONS = 50_000_000  # a code (mini 11, the published codec 343): BLAS has one thread here, torch many


class FewCodes:
    """A generator with the weights it has now."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.layers: dict[nn.Module, FrameConv] = {
            module: _layer(module)
            for module in generator.modules()
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d)
        }
        one_blas_thread()

    def __call__(self, latents: Array, voice: Array | None, before: Array, fed: int, left: int) -> tuple[Array, Array]:
        """Take the next codes of one row.

        Args:
            latents: [T, D].
            voice: [D_voice] or None.
            before: [N], the row's contexts.
            fed: codes taken before.
            left: codes from here to the segment's end.

        Returns:
            Waveform [T * hop], which lags; and contexts [N].
        """
        now = _Row(self.layers, before, fed, left)
        x, _ = walk(now, self.generator, latents, voice)
        return np.tanh(x[:, 0]), now.after


class _Row:
    """A ``Walk``; every ``x`` is [T, C]."""

    def __init__(self, layers: dict[nn.Module, FrameConv], before: Array, fed: int, left: int) -> None:
        self.layers, self.fed, self.left = layers, fed, left
        self.before, self.after, self.at = before, np.empty_like(before), 0

    def mask(self, x: Array, rate: int, delay: int) -> Array:
        if (early := delay - self.fed * rate) > 0:
            x[:early] = 0
        if (end := delay + self.left * rate) < len(x):
            x[end:] = 0
        return x

    def conv(self, x: Array, conv: nn.Module, slope: float) -> Array:
        layer = self.layers[conv]
        buffer, size = layer.buffer(len(x)), layer.context
        before, after = self._contexts(size, layer.channels)
        buffer[:size] = before
        new = buffer[size : size + len(x)]
        np.multiply(x, np.float32(slope), out=new)
        np.maximum(new, x, out=new)
        after[:] = buffer[len(x) : len(x) + size]
        return layer(buffer, len(x))

    def upsample(self, x: Array, conv: nn.ConvTranspose1d, slope: float) -> Array:
        return self.conv(x, conv, slope).reshape(len(x) * conv.stride[0], -1)

    def add(self, y: Array, x: Array, frames: int) -> Array:
        before, after = self._contexts(frames, x.shape[1])
        short, known = min(frames, len(x)), max(0, frames - len(x))
        y[:short] += before[:short]
        y[short:] += x[: len(x) - short]
        after[:known] = before[frames - known :]
        after[known:] = x[len(x) - short :]
        return y

    def _contexts(self, frames: int, channels: int) -> tuple[Array, Array]:
        """Of the next layer, [frames, C]: the one to read and the one to write."""
        start, self.at = self.at, self.at + frames * channels
        return tuple(side[start : self.at].reshape(frames, channels) for side in (self.before, self.after))  # type: ignore[return-value]


def _layer(conv: nn.Conv1d | nn.ConvTranspose1d) -> FrameConv:
    """A transposed convolution becomes a plain one whose outputs are the frames of one input, side by side."""
    weight = array_of(conv.weight)
    bias = np.zeros(conv.out_channels, np.float32) if conv.bias is None else array_of(conv.bias)
    if isinstance(conv, nn.Conv1d):
        return FrameConv(weight.transpose(2, 1, 0), bias, conv.dilation[0])
    factor, inputs = conv.stride[0], len(weight)
    taps = -(-weight.shape[2] // factor)
    full = np.zeros((inputs, conv.out_channels, taps * factor), np.float32)
    full[:, :, : weight.shape[2]] = weight
    newest_last = full.reshape(inputs, conv.out_channels, taps, factor)[:, :, ::-1]
    return FrameConv(newest_last.transpose(2, 0, 3, 1).reshape(taps, inputs, -1), np.tile(bias, factor))


def few_codes_of(generator: Generator) -> FewCodes | None:
    """None where it is on another device, in another precision, or large."""
    small = fits(generator.conv_post.weight) and _multiplications(generator) <= MOST_MULTIPLICATIONS
    return FewCodes(generator) if small else None


def _multiplications(generator: Generator) -> int:
    """About how many a code takes."""
    rate, total = 1, _parameters(generator.conv_pre, generator.frame_block)
    for stage, up in enumerate(generator.ups):
        assert isinstance(up, nn.ConvTranspose1d)
        total += rate * _parameters(up)
        rate *= up.stride[0]
        total += rate * _parameters(generator.stage_blocks(stage))
    return total + rate * _parameters(generator.conv_post)


def _parameters(*modules: nn.Module | None) -> int:
    return sum(parameter.numel() for module in modules if module is not None for parameter in module.parameters())
