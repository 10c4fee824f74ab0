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

MOST_MULTIPLICATIONS = 50_000_000  # a code (mini 11, the published codec 343) where torch has many threads: here is one
FEW_THREADS = 2  # of torch's, which do not make up for what it does beside the multiplications


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
            Waveform [S] that is new: of the segment, and known by now; and contexts [N], of no use after its end.
        """
        now = _Row(self.layers, before, fed, left, len(latents))
        x, _ = walk(now, self.generator, latents[:left], voice)
        return np.tanh(x[:, 0]), now.after


class _Row:
    """A ``Walk``; every ``x`` is [T, C], and has the frames of the segment only.

    So the last layers of a segment's first call, which lag the most and do most of the work, have little to do, and
    nor have the first layers of its last.
    """

    def __init__(self, layers: dict[nn.Module, FrameConv], before: Array, fed: int, left: int, taken: int) -> None:
        self.layers, self.fed, self.left, self.taken = layers, fed, left, taken
        self.before, self.after, self.at = before, np.empty_like(before), 0

    def mask(self, x: Array, rate: int, delay: int) -> Array:
        return x

    def conv(self, x: Array, conv: nn.Conv1d, slope: float, rate: int, delay: int) -> Array:
        layer = self.layers[conv]
        start, _ = self._span(rate, delay)
        first, stop = self._span(rate, delay + layer.context // 2)
        return self._through(layer, x, slope, first - start, stop - first)

    def upsample(self, x: Array, conv: nn.ConvTranspose1d, slope: float, rate: int, delay: int) -> Array:
        factor, layer = conv.stride[0], self.layers[conv]
        start, _ = self._span(rate, delay)
        first, stop = self._span(rate * factor, delay * factor + int(conv.padding[0]))
        whole = first // factor
        y = self._through(layer, x, slope, whole - start, -(-stop // factor) - whole)
        return y.reshape(-1, layer.outputs // factor)[first - whole * factor : stop - whole * factor]

    def add(self, y: Array, x: Array, frames: int, rate: int, delay: int) -> Array:
        start, _ = self._span(rate, delay)
        first = self._span(rate, delay + frames)[0] - start
        before, after = self._contexts(frames, x.shape[1])
        old = before[first : first + len(y)]
        y[: len(old)] += old
        y[len(old) :] += x[first + len(old) - frames :][: len(y) - len(old)]
        _newest(before, x, after)
        return y

    def _through(self, layer: FrameConv, x: Array, slope: float, skipped: int, frames: int) -> Array:
        """Leaky ReLU, then ``layer``: ``frames`` outputs, the first one ``skipped`` frames after the first of ``x``."""
        size, buffer = layer.context, layer.buffer(frames)
        before, after = self._contexts(size, layer.channels)
        known = size - skipped
        buffer[:known] = before[skipped:]
        new = buffer[known : known + len(x)]
        np.multiply(x, np.float32(slope), out=new)
        np.maximum(new, x, out=new)
        buffer[known + len(x) : size + frames] = 0
        _newest(before, new, after)
        return layer(buffer, frames) if frames else np.empty((0, layer.outputs), np.float32)

    def _span(self, rate: int, delay: int) -> tuple[int, int]:
        """From where to where frames belong to the segment, of those that this call could know."""
        count = self.taken * rate
        return max(0, min(count, delay - self.fed * rate)), max(0, min(count, delay + self.left * rate))

    def _contexts(self, frames: int, channels: int) -> tuple[Array, Array]:
        """Of the next layer, [frames, C]: the one to read and the one to write."""
        start, self.at = self.at, self.at + frames * channels
        return tuple(side[start : self.at].reshape(frames, channels) for side in (self.before, self.after))  # type: ignore[return-value]


def _newest(before: Array, x: Array, out: Array) -> None:
    """The last frames of ``before`` and then ``x``, as many as ``out`` has."""
    new = min(len(out), len(x))
    out[: len(out) - new] = before[new:]
    out[len(out) - new :] = x[len(x) - new :]


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


def few_codes_of(generator: Generator, threads: int) -> FewCodes | None:
    """None where it is on another device, in another precision, or large and torch has many ``threads``."""
    if not fits(generator.conv_post.weight):
        return None
    pays = threads <= FEW_THREADS or _multiplications(generator) <= MOST_MULTIPLICATIONS
    return FewCodes(generator) if pays else None


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
