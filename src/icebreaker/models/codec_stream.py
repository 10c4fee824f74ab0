"""Codes to waveform as they arrive, equal to decoding them all at once. Knows nothing of packets or replies.

Every convolution keeps the newest inputs it will need again, so each code is computed once (the official wave-out in
``codec_overlap`` decodes 20 of every 60 codes twice). What that delays (``codec_walk``) comes with the last code. Where
a layer's input lies before the first or after the last code it is zero, as offline padding makes it. On a CPU a small
codec's few codes are made in NumPy (``codec_few_codes``), from the same state and to the same.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icebreaker.models.codec import Generator, GeneratorConfig
from icebreaker.models.codec_few_codes import few_codes_of
from icebreaker.models.codec_overlap import OfficialWaveOut, OfficialWaveState
from icebreaker.models.codec_walk import walk
from icebreaker.nn.few_tokens import array_of, fits
from icebreaker.streaming import select

__all__ = ["CodecStream", "CodecStreamState", "CodesToWaveform", "OfficialWaveOut", "OfficialWaveState"]


class CodecStreamState(NamedTuple):
    """What each row has heard of its segment."""

    fed: Tensor  # [B] codes taken
    contexts: Tensor  # [B, N], the newest inputs of each layer, frame by frame, layers in order of use


class CodesToWaveform(Protocol):
    """What can be streamed: the codec's decoder or the unit vocoder's, codes at a steady rate in, sound out."""

    generator: Generator

    @property
    def config(self) -> GeneratorConfig:
        """Sizes of the generator."""

    def embed(self, codes: Tensor, voice: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Latents [B, D, T], and the voice vector [B, D_voice] where there are voices."""


class CodecStream:
    """Streams a codec; holds no state of a stream. Its weights may be moved meanwhile; on a CPU they stay as they are.

    Attributes:
        few_codes: the NumPy form of the generator, where it pays; None: torch's is used.
    """

    def __init__(self, codec: CodesToWaveform) -> None:
        self.codec = codec
        self.few_codes = few_codes_of(codec.generator, torch.get_num_threads())
        weight = codec.generator.conv_post.weight
        trial = _Pass(None, weight.new_zeros(1, dtype=torch.long), weight.new_ones(1, dtype=torch.long), None)
        with torch.no_grad():
            latents = weight.new_zeros(1, codec.config.latent_dim, 1)
            voice = None if codec.generator.voice_dim is None else weight.new_zeros(1, codec.generator.voice_dim, 1)
            _, self.delay_samples = walk(trial, codec.generator, latents, voice)
        self.context_size = trial.after.shape[1]

    def initial_state(self, batch: int) -> CodecStreamState:
        """Before the first code."""
        weight = self.codec.generator.conv_post.weight
        return CodecStreamState(weight.new_zeros(batch, dtype=torch.long), weight.new_zeros(batch, self.context_size))

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
            return state.contexts.new_zeros(len(codes), 0), lengths, state
        latents, voice_vector = self._embed(codes, voice, int(taken.max()))
        first = (self.delay_samples - state.fed * hop).clamp_min(0)
        stop = torch.where(last, lengths * hop + self.delay_samples, lengths * hop)
        samples = torch.where(lengths + last > 0, stop - first, 0).clamp_min(0)
        ends = torch.where(last, state.fed + lengths, _FOREVER)
        run = self._by_row if self.few_codes and fits(self.codec.generator.conv_post.weight) else self._together
        output, contexts = run(latents, voice_vector, state, taken, ends)
        waveform = _slices(output[:, None], _common(first), int(samples.max()))[:, 0]
        following = CodecStreamState(state.fed + lengths, contexts)
        if last.any():
            following = select(~last, following, self.initial_state(len(codes)))
        return waveform, samples, following

    def _embed(self, codes: Tensor, voice: Tensor | None, length: int) -> tuple[Tensor, Tensor | None]:
        """Latents padded to ``length`` codes, and the voice."""
        if voice is not None:
            voice = voice.reshape(-1, voice.shape[-1]).expand(len(codes), -1)
        latents, vector = self.codec.embed(codes, voice)
        return F.pad(latents, (0, length - latents.shape[-1])), vector

    def _together(
        self, latents: Tensor, voice: Tensor | None, state: CodecStreamState, taken: Tensor, ends: Tensor
    ) -> tuple[Tensor, Tensor]:
        """In torch: waveform [B, S], which lags, and the next contexts."""
        now = _Pass(state.contexts, state.fed, taken, ends)
        x, _ = walk(now, self.codec.generator, latents, None if voice is None else voice[:, :, None])
        return torch.tanh(x).squeeze(1), now.after

    def _by_row(
        self, latents: Tensor, voice: Tensor | None, state: CodecStreamState, taken: Tensor, ends: Tensor
    ) -> tuple[Tensor, Tensor]:
        """In NumPy, the same."""
        assert self.few_codes is not None
        waveform = latents.new_zeros(len(latents), latents.shape[-1] * self.codec.config.hop_length)
        contexts, frames = state.contexts.clone(), latents.mT.contiguous()
        spans = zip(taken.tolist(), state.fed.tolist(), (ends - state.fed).tolist(), strict=True)
        for row, (count, fed, left) in enumerate(spans):
            if count == 0:
                continue
            vector = None if voice is None else array_of(voice[row])
            sound, after = self.few_codes(
                array_of(frames[row, :count]), vector, array_of(state.contexts[row]), fed, left
            )
            first = max(0, self.delay_samples - fed * self.codec.config.hop_length)
            waveform[row, first : first + len(sound)] = torch.from_numpy(sound)
            contexts[row] = torch.from_numpy(after)
        return waveform, contexts


_FOREVER = 1 << 40  # end of a segment that goes on


class _Pass:
    """A ``Walk`` of a batch, in torch; every ``x`` is [B, C, T]."""

    def __init__(self, contexts: Tensor | None, fed: Tensor, taken: Tensor, ends: Tensor | None) -> None:
        """``contexts`` None: zeros. ``ends`` [B]: position of the first code after the segment."""
        self.contexts, self.at = contexts, 0
        self.taken, self.codes = _common(taken), int(taken.max())
        self.kept = list[Tensor]()
        # Of each row: codes before this call, and those from there to its end.
        self.spans = [] if ends is None else list(zip(fed.tolist(), (ends - fed).tolist(), strict=True))

    @property
    def after(self) -> Tensor:
        """Contexts [B, N] of the next call."""
        return torch.cat(self.kept, dim=1)

    def mask(self, x: Tensor, rate: int, delay: int) -> Tensor:
        for row, (fed, left) in enumerate(self.spans):
            if (early := delay - fed * rate) > 0:
                x[row, :, :early] = 0.0
            if (end := delay + left * rate) < x.shape[-1]:
                x[row, :, end:] = 0.0
        return x

    def conv(self, x: Tensor, conv: nn.Conv1d, slope: float, rate: int, delay: int) -> Tensor:
        context = (conv.kernel_size[0] - 1) * conv.dilation[0]
        joined = self._extend(F.leaky_relu(x, slope), context)
        return F.conv1d(joined, conv.weight, conv.bias, dilation=conv.dilation)

    def upsample(self, x: Tensor, conv: nn.ConvTranspose1d, slope: float, rate: int, delay: int) -> Tensor:
        factor = conv.stride[0]
        context = -(-(conv.kernel_size[0] - factor) // factor)
        joined = self._extend(F.leaky_relu(x, slope), context)
        full = F.conv_transpose1d(joined, conv.weight, conv.bias, stride=factor)
        return full[..., context * factor : (context + x.shape[-1]) * factor]  # all contributions are in

    def add(self, y: Tensor, x: Tensor, frames: int, rate: int, delay: int) -> Tensor:
        return self._extend(x, frames)[..., : x.shape[-1]] + y

    def _extend(self, x: Tensor, context: int) -> Tensor:
        """``x`` [B, C, T] with the ``context`` frames before it; remembers those before the next call's."""
        if context == 0:
            return x
        batch, channels, frames = x.shape
        if self.contexts is None:
            before = x.new_zeros(batch, channels, context)
        else:
            stop = self.at + context * channels
            before = self.contexts[:, self.at : stop].reshape(batch, context, channels).mT
            self.at = stop
        joined = torch.cat([before, x], dim=-1)
        newest = _slices(joined, self.taken * (frames // self.codes), context)
        self.kept.append(newest.mT.reshape(batch, -1))
        return joined


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
