"""Codes to waveform as they arrive, equal to decoding them all at once. Knows nothing of packets or replies.

Every convolution keeps the newest inputs it will need again, so each code is computed once (the official wave-out in
``codec_overlap`` decodes 20 of every 60 codes twice). Convolutions look ahead; here each is shifted to look back only,
which delays its output, and shorter paths wait for longer ones. Where a layer's input lies before the first or after
the last code it is zero, as offline padding makes it. All that the delay held back comes with the last code.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icebreaker.models.codec import Generator, GeneratorConfig
from icebreaker.models.codec_layers import SLOPE, ResidualBlock1, ResidualBlock2
from icebreaker.models.codec_overlap import OfficialWaveOut, OfficialWaveState
from icebreaker.streaming import select

__all__ = ["CodecStream", "CodecStreamState", "CodesToWaveform", "OfficialWaveOut", "OfficialWaveState"]


class CodecStreamState(NamedTuple):
    """What each row has heard of its segment."""

    fed: Tensor  # [B] codes taken
    contexts: tuple[Tensor, ...]  # each [B, C, N], the newest inputs of one layer, in order of use


class CodesToWaveform(Protocol):
    """What can be streamed: the codec's decoder or the unit vocoder's, codes at a steady rate in, sound out."""

    generator: Generator

    @property
    def config(self) -> GeneratorConfig:
        """Sizes of the generator."""

    def embed(self, codes: Tensor, voice: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Latents [B, D, T], and the voice vector [B, D_voice] where there are voices."""


class CodecStream:
    """Streams a codec whose weights may be trained or moved meanwhile; holds no state of a stream."""

    def __init__(self, codec: CodesToWaveform) -> None:
        self.codec = codec
        weight = codec.generator.conv_post.weight
        trial = _Pass(None, weight.new_zeros(1, dtype=torch.long), weight.new_ones(1, dtype=torch.long), None)
        with torch.no_grad():
            latents = weight.new_zeros(1, codec.config.latent_dim, 1)
            voice = None if codec.generator.voice_dim is None else weight.new_zeros(1, codec.generator.voice_dim)
            _, self.delay_samples = self._run(trial, latents, voice)
        self.context_shapes = [tuple(context.shape[1:]) for context in trial.kept]

    def initial_state(self, batch: int) -> CodecStreamState:
        """Before the first code."""
        weight = self.codec.generator.conv_post.weight
        contexts = tuple(weight.new_zeros(batch, *shape) for shape in self.context_shapes)
        return CodecStreamState(weight.new_zeros(batch, dtype=torch.long), contexts)

    @torch.no_grad()
    def __call__(
        self, codes: Tensor, lengths: Tensor, last: Tensor, state: CodecStreamState, voice: Tensor | None = None
    ) -> tuple[Tensor, Tensor, CodecStreamState]:
        """Take the next codes of each row.

        Args:
            codes: [B, T], or [B, K, T] with K > 1 codebooks; what lies past a row's length is not looked at.
            lengths: [B], codes of each row; 0 and not ``last``: the row is idle and stays as it was.
            last: [B], the row's segment ends with these codes; its state starts anew.
            state: from ``initial_state`` or the previous call.
            voice: voice codes [n], [1, n] or [B, n]; None: the codec's own.

        Returns:
            Waveform [B, S]; the number of its first samples that are new audio in each row [B]; the next state. Up to
            ``delay_samples`` are held back until ``last``.

        Raises:
            ValueError: shapes do not fit.
        """
        if lengths.shape != codes.shape[:1] or last.shape != lengths.shape or len(state.fed) != len(lengths):
            raise ValueError(f"expected lengths and last [{len(codes)}], and a state of as many rows")
        if int(lengths.max()) > codes.shape[-1]:
            raise ValueError(f"a length exceeds the {codes.shape[-1]} codes given")
        hop = self.codec.config.hop_length
        flushed = -(-self.delay_samples // hop)  # codes that push the rest out
        taken = lengths + flushed * last
        if not taken.any():  # every row is idle
            return state.contexts[0].new_zeros(len(codes), 0), lengths, state
        latents, voice_vector = self._embed(codes, voice, int(taken.max()))
        now = _Pass(state, state.fed, taken, torch.where(last, state.fed + lengths, _FOREVER))
        output, _ = self._run(now, latents, voice_vector)
        first = (self.delay_samples - state.fed * hop).clamp_min(0)
        stop = torch.where(last, lengths * hop + self.delay_samples, lengths * hop)
        samples = torch.where(lengths + last > 0, stop - first, 0).clamp_min(0)
        waveform = _slices(output[:, None], _common(first), int(samples.max()))[:, 0]
        following = CodecStreamState(state.fed + lengths, tuple(now.kept))
        if last.any():
            following = select(~last, following, self.initial_state(len(codes)))
        return waveform, samples, following

    def _embed(self, codes: Tensor, voice: Tensor | None, length: int) -> tuple[Tensor, Tensor | None]:
        """Latents padded to ``length`` codes, and the voice."""
        if voice is not None:
            voice = voice.reshape(-1, voice.shape[-1]).expand(len(codes), -1)
        latents, vector = self.codec.embed(codes, voice)
        return F.pad(latents, (0, length - latents.shape[-1])), vector

    def _run(self, now: "_Pass", latents: Tensor, voice: Tensor | None) -> tuple[Tensor, int]:
        """The generator in streaming form: waveform [B, S], and by how many samples it lags."""
        generator, rate, delay = self.codec.generator, 1, 0
        x = now.mask(latents, rate, delay)
        x, delay = now.conv(x, generator.conv_pre, rate, delay)
        x = now.mask(x, rate, delay)
        if generator.frame_block is not None:
            x, delay = now.block(x, generator.frame_block, rate, delay)
        for stage, up in enumerate(generator.ups):
            x, rate, delay = now.upsample(F.leaky_relu(x, SLOPE), up, rate, delay)
            x, delay = now.parallel(now.mask(x, rate, delay), generator.stage_blocks(stage), rate, delay)
            if voice is not None and x.shape[1] == generator.voice_dim:
                x = now.mask(x + voice[:, :, None], rate, delay)
        x, delay = now.conv(F.leaky_relu(x, generator.last_slope), generator.conv_post, rate, delay)
        return torch.tanh(x).squeeze(1), delay


_FOREVER = 1 << 40  # end of a segment that goes on


class _Pass:
    """One call's way through the layers: takes each layer's context, keeps the next one.

    A tensor at ``rate`` frames per code with ``delay`` holds, at index j, the frame at j - delay of those that start
    with the first code of this call.
    """

    def __init__(self, state: CodecStreamState | None, fed: Tensor, taken: Tensor, ends: Tensor | None) -> None:
        """``state`` None: contexts are zeros. ``ends`` [B]: position of the first code after the segment."""
        self.contexts: Iterator[Tensor] | None = iter(state.contexts) if state else None
        self.taken = _common(taken)
        self.kept = list[Tensor]()
        # Of each row: codes before this call, and those from there to its end.
        self.spans = [] if ends is None else list(zip(fed.tolist(), (ends - fed).tolist(), strict=True))

    def extend(self, x: Tensor, context: int, rate: int) -> Tensor:
        """``x`` [B, C, T] with the ``context`` frames before it; remembers those before the next call's."""
        if context == 0:
            return x
        before = x.new_zeros(*x.shape[:2], context) if self.contexts is None else next(self.contexts)
        joined = torch.cat([before, x], dim=-1)
        self.kept.append(_slices(joined, self.taken * rate, context))
        return joined

    def mask(self, x: Tensor, rate: int, delay: int) -> Tensor:
        """Zero what lies outside the segment, in place: the beginning of a row that starts, the rest of one that ends.

        Every ``x`` is a result of this pass that nobody else holds, or was masked before.
        """
        for row, (fed, left) in enumerate(self.spans):
            if (early := delay - fed * rate) > 0:
                x[row, :, :early] = 0.0
            if (end := delay + left * rate) < x.shape[-1]:
                x[row, :, end:] = 0.0
        return x

    def conv(self, x: Tensor, conv: nn.Module, rate: int, delay: int) -> tuple[Tensor, int]:
        """A length-keeping convolution."""
        assert isinstance(conv, nn.Conv1d)
        context = (conv.kernel_size[0] - 1) * conv.dilation[0]
        y = F.conv1d(self.extend(x, context, rate), conv.weight, conv.bias, dilation=conv.dilation)
        return y, delay + context // 2

    def upsample(self, x: Tensor, conv: nn.Module, rate: int, delay: int) -> tuple[Tensor, int, int]:
        """A transposed convolution; also returns the new rate."""
        assert isinstance(conv, nn.ConvTranspose1d)
        factor, padding = conv.stride[0], int(conv.padding[0])
        context = -(-(conv.kernel_size[0] - factor) // factor)
        full = F.conv_transpose1d(self.extend(x, context, rate), conv.weight, conv.bias, stride=factor)
        y = full[..., context * factor : (context + x.shape[-1]) * factor]  # all contributions are in
        return y, rate * factor, delay * factor + padding

    def wait(self, x: Tensor, frames: int, rate: int) -> Tensor:
        """``x``, ``frames`` later."""
        return self.extend(x, frames, rate)[..., : x.shape[-1]]

    def block(self, x: Tensor, block: nn.Module, rate: int, delay: int) -> tuple[Tensor, int]:
        """A residual block of either kind."""
        for convs in _added(block):
            y, later = x, delay
            for conv in convs:
                y, later = self.conv(F.leaky_relu(self.mask(y, rate, later), SLOPE), conv, rate, later)
            x, delay = self.mask(self.wait(x, later - delay, rate) + y, rate, later), later
        return x, delay

    def parallel(self, x: Tensor, blocks: nn.ModuleList, rate: int, delay: int) -> tuple[Tensor, int]:
        """The average of parallel residual blocks, each waiting for the slowest."""
        results = [self.block(x, block, rate, delay) for block in blocks]
        slowest = max(later for _, later in results)
        waited = [self.wait(y, slowest - later, rate) for y, later in results]
        return torch.stack(waited).sum(dim=0) / len(blocks), slowest


def _added(block: nn.Module) -> list[tuple[nn.Module, ...]]:
    """The convolutions between one addition and the next."""
    if isinstance(block, ResidualBlock1):
        return list(zip(block.convs1, block.convs2, strict=True))
    assert isinstance(block, ResidualBlock2)
    return [(conv,) for conv in block.convs]


def _common(numbers: Tensor) -> Tensor | int:
    """One number where all of [B] are the same."""
    values = numbers.tolist()
    return int(values[0]) if len(set(values)) == 1 else numbers


def _slices(x: Tensor, starts: Tensor | int, length: int) -> Tensor:
    """[B, C, length] out of ``x`` [B, C, T], from one start or another [B] in each row; past the end no meaning."""
    if isinstance(starts, int):
        return x[..., starts : starts + length]
    index = (starts[:, None] + torch.arange(length, device=x.device)).clamp_max(x.shape[-1] - 1)
    return x.gather(-1, index[:, None].expand(-1, x.shape[1], -1))
