"""Speech encoder: 100 Hz log-mel features to 25 Hz frames, chunk by chunk. Knows nothing of audio files or LLMs."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.models.encoder_layers import Attention, EncoderLayer, FeedForward, LayerState
from icebreaker.nn.masks import additive, chunk_mask, draw_chunks, padding_mask
from icebreaker.nn.positions import sinusoid
from icebreaker.nn.subsampling import CONTEXT_FRAMES, RATE, Subsampling

__all__ = ["Encoder", "EncoderConfig", "EncoderState"]

OFFICIAL_POSITIONS = 5000  # rows of the official position table; positions wrap around below it


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Defaults are the sizes of the published Freeze-Omni encoder (arXiv:2411.00774, section 3.2)."""

    mel_bins: int = 80
    subsampling_dim: int = 1024
    width: int = 1024
    heads: int = 16
    feed_forward_dim: int = 4096
    layers: int = 24
    chunk_size: int = 4  # encoder frames (40 ms each); 0 or less: full context, no streaming
    left_chunks: int = 16  # earlier chunks in sight; negative: all, no streaming
    input_layer: Literal["linear", "embed", "none"] = "linear"
    position_encoding: Literal["rel-enc", "abs-enc"] = "rel-enc"
    normalize_before: bool = True
    concat_after: bool = False
    feed_forward: Literal["linear", "conv1d", "conv1d-linear"] = "linear"
    feed_forward_kernel_size: int = 1
    dynamic_chunks: bool = False  # training draws the chunk mask anew for each batch
    dropout: float = 0.1
    attention_dropout: float = 0.0
    positional_dropout: float = 0.1
    positions: Literal["absolute", "official"] = "absolute"  # official: streaming lags and wraps as the release does

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"expected an even width divisible by heads, got width {self.width}, heads {self.heads}")
        if self.input_layer == "embed":
            raise ValueError(
                "input_layer 'embed' looks up integer ids; subsampled speech has none: use 'linear' or 'none'"
            )
        if self.input_layer == "none" and self.subsampling_dim != self.width:
            raise ValueError(
                f"input_layer 'none' needs subsampling_dim == width, got {self.subsampling_dim} and {self.width}"
            )


class EncoderState(NamedTuple):
    """What one encoder remembers of each session; rows may be at different places."""

    features: Tensor  # [B, 3, F], the newest feature frames seen
    layers: tuple[LayerState, ...]  # chunk_size * left_chunks slots each, the newest frame last
    cached: Tensor  # [B] how many of these slots hold a frame
    position: Tensor  # [B] number of the next frame (positions "official": the released pe_index)


class Encoder(nn.Module):
    """Subsampling and a chunked transformer (arXiv:2411.00774, section 3.2; official implementation).

    With ``positions="absolute"`` a frame keeps its true number, so streaming equals ``encode`` at any length. The
    released code lets the position rows lag by a chunk once its cache is full, and wraps below row 5000; official
    weights need ``positions="official"`` to give the official streaming output.
    """

    mean: Tensor
    istd: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        positional = config.position_encoding == "rel-enc"
        self.register_buffer("mean", torch.zeros(config.mel_bins))
        self.register_buffer("istd", torch.ones(config.mel_bins))
        self.subsampling = Subsampling(config.mel_bins, config.subsampling_dim)
        self.embed = _InputLayer(config.subsampling_dim, config.width) if config.input_layer == "linear" else None
        self.positional_dropout = nn.Dropout(config.positional_dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(
                Attention(config.width, config.heads, config.attention_dropout, positional),
                FeedForward(
                    config.width,
                    config.feed_forward_dim,
                    config.feed_forward,
                    config.feed_forward_kernel_size,
                    config.dropout,
                ),
                config.width,
                config.dropout,
                config.normalize_before,
                config.concat_after,
            )
            for _ in range(config.layers)
        )
        self.final_norm = nn.LayerNorm(config.width) if config.normalize_before else None

    def encode(
        self,
        fbank: Tensor,
        lengths: Tensor,
        *,
        chunk_size: int | None = None,
        left_chunks: int | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode whole recordings at once, as streaming would; for training and offline use.

        Args:
            fbank: [B, T, F] log-mel features at 100 Hz, rows padded at the end.
            lengths: [B] feature frames of each row.
            chunk_size: encoder frames in a chunk instead of the configured ones; 0 or less: full context.
            left_chunks: earlier chunks in sight instead of the configured ones; negative: all.
            generator: source of the random masks where ``dynamic_chunks`` is on, in training.

        Returns:
            [B, T // 4, D] frames at 25 Hz (zero past the end) and the [B] number of frames of each row.

        Raises:
            ValueError: there is no whole frame, or random masks are due and there is no generator.
        """
        features = F.pad(fbank, (0, 0, CONTEXT_FRAMES, 0))
        return self.encode_features(
            features, lengths + CONTEXT_FRAMES, chunk_size=chunk_size, left_chunks=left_chunks, generator=generator
        )

    def encode_features(
        self,
        features: Tensor,
        lengths: Tensor,
        *,
        chunk_size: int | None = None,
        left_chunks: int | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As ``encode``, on [B, T, F] features that already begin with their 3 frames of context."""
        if features.shape[1] < CONTEXT_FRAMES + RATE:
            raise ValueError(
                f"expected at least {RATE} feature frames, got {features.shape[1] - CONTEXT_FRAMES}; pad the end"
            )
        x = self._embed(features)
        frames = x.shape[1]
        frame_lengths = ((lengths - CONTEXT_FRAMES) // RATE).clamp(min=0)
        real = padding_mask(frame_lengths, frames)
        chunk_size, left_chunks = self._chunks(frames, chunk_size, left_chunks, generator)
        numbers = torch.arange(frames, device=x.device)
        visible = chunk_mask(numbers, numbers, chunk_size, left_chunks) & real.unsqueeze(1)  # [B, T, T]
        bias = additive(visible, x.dtype).unsqueeze(1)
        rows = self._rows(numbers.unsqueeze(0), x.dtype)
        x, layer_rows = self._with_positions(x, rows)
        for layer in self.layers:
            x, _ = layer(x, layer_rows, bias)
        return self._finish(x).masked_fill(~real.unsqueeze(-1), 0.0), frame_lengths

    def initial_state(self, batch: int) -> EncoderState:
        """The state of ``batch`` sessions that have heard nothing."""
        config = self.config
        slots = max(config.chunk_size * config.left_chunks, 0)
        empty = self.mean.new_zeros(batch, config.heads, slots, config.width // config.heads)
        scores = empty[..., 0] if config.position_encoding == "rel-enc" and config.positions == "absolute" else None
        zero = torch.zeros(batch, dtype=torch.int64, device=self.mean.device)
        precise = torch.promote_types(self.mean.dtype, torch.float32)  # features stay so around a halved encoder
        return EncoderState(
            features=self.mean.new_zeros(batch, CONTEXT_FRAMES, config.mel_bins, dtype=precise),
            layers=tuple(LayerState(empty, empty, scores) for _ in range(config.layers)),
            cached=zero,
            position=zero,
        )

    def forward(self, fbank: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Advance by one or more chunks.

        Args:
            fbank: [B, T, F] log-mel features; T is a multiple of 4 * ``chunk_size``.
            state: from ``initial_state`` or the previous call.

        Returns:
            [B, T // 4, D] frames, and the next state.

        Raises:
            ValueError: T does not fit, or the configuration cannot stream.
        """
        self._check_stream(fbank)
        features = torch.cat([state.features, fbank], dim=1)
        x = self._embed(features)
        state = state._replace(features=features[:, -CONTEXT_FRAMES:])
        if self.config.positions == "absolute":
            x, state = self._advance(x, state)
        else:
            pieces = []
            for piece in x.split(self.config.chunk_size, dim=1):
                heard, state = self._advance_official(piece, state)
                pieces.append(heard)
            x = torch.cat(pieces, dim=1)
        return self._finish(x), state

    def _advance(self, x: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        config = self.config
        frames, slots = x.shape[1], config.chunk_size * config.left_chunks
        numbers = torch.arange(frames, device=x.device)
        keys = torch.arange(-slots, frames, device=x.device)  # counted from the first new frame
        visible = (keys >= -state.cached.unsqueeze(1)).unsqueeze(1)  # [B, 1, N + T]
        if frames > config.chunk_size:  # a single chunk sees all that is kept
            visible = visible & chunk_mask(numbers, keys, config.chunk_size, config.left_chunks)
        rows = self._rows(state.position.unsqueeze(1) + numbers, x.dtype)
        x, layer_rows = self._with_positions(x, rows)
        x, layers = self._through(x, layer_rows, additive(visible, x.dtype).unsqueeze(1), state.layers, None)
        cached = (state.cached + frames).clamp(max=slots)
        return x, state._replace(layers=layers, cached=cached, position=state.position + frames)

    def _advance_official(self, x: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        chunk, left = self.config.chunk_size, self.config.left_chunks
        slots, span = chunk * left, (left + 1) * chunk
        position = state.position % (chunk * (OFFICIAL_POSITIONS // chunk) - span)
        start = (position - span).clamp(min=0).unsqueeze(1)  # [B, 1], the row of the oldest kept frame
        keys = torch.arange(-slots, x.shape[1], device=x.device) + state.cached.unsqueeze(1)  # [B, N + T]
        rows = self._rows((start + keys).clamp(min=0), x.dtype)
        bias = additive(keys >= 0, x.dtype)[:, None, None]
        x, late_rows = self._with_positions(x, rows)
        x, layers = self._through(x, None, bias, state.layers, late_rows)
        cached = (state.cached + chunk).clamp(max=slots)
        return x, state._replace(layers=layers, cached=cached, position=position + chunk)

    def _through(
        self,
        x: Tensor,
        rows: Tensor | None,
        bias: Tensor,
        past: tuple[LayerState, ...],
        late_rows: Tensor | None,
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        states = []
        for layer, layer_state in zip(self.layers, past, strict=True):
            x, new = layer(x, rows, bias, layer_state, late_rows)
            states.append(new)
        return x, tuple(states)

    def _embed(self, features: Tensor) -> Tensor:
        normal = ((features - self.mean) * self.istd).to(self.subsampling.conv1.weight.dtype)
        x: Tensor = self.subsampling(normal)
        x = x if self.embed is None else self.embed(x)
        return x * float(self.config.width**0.5)

    def _rows(self, positions: Tensor, dtype: torch.dtype) -> Tensor:
        return sinusoid(positions, self.config.width).to(dtype)

    def _with_positions(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.config.position_encoding == "abs-enc":  # added once, here
            return self.positional_dropout(x + rows), None
        return self.positional_dropout(x), self.positional_dropout(rows)

    def _finish(self, x: Tensor) -> Tensor:
        return x if self.final_norm is None else self.final_norm(x)

    def _chunks(
        self, frames: int, chunk_size: int | None, left_chunks: int | None, generator: torch.Generator | None
    ) -> tuple[int, int]:
        if self.config.dynamic_chunks and self.training and chunk_size is None:
            if generator is None:
                raise ValueError("dynamic_chunks draws a mask per training batch: pass a torch.Generator")
            return draw_chunks(frames, generator)
        return (
            self.config.chunk_size if chunk_size is None else chunk_size,
            self.config.left_chunks if left_chunks is None else left_chunks,
        )

    def _check_stream(self, fbank: Tensor) -> None:
        config = self.config
        if config.chunk_size <= 0 or config.left_chunks < 0:
            raise ValueError(
                f"streaming needs chunk_size > 0 and left_chunks >= 0, got {config.chunk_size} and "
                f"{config.left_chunks}; use encode() for whole recordings"
            )
        if config.feed_forward != "linear":
            raise ValueError(f"feed_forward {config.feed_forward!r} does not stream; use encode() or train 'linear'")
        if config.positions == "official" and config.position_encoding == "abs-enc":
            raise ValueError("'abs-enc' has no official streaming; use positions 'absolute'")
        step = RATE * config.chunk_size
        if fbank.shape[1] == 0 or fbank.shape[1] % step:
            raise ValueError(f"expected a multiple of {step} feature frames, got {fbank.shape[1]}; pad the end")


class _InputLayer(nn.Module):
    """Linear, LayerNorm, ReLU."""

    def __init__(self, input_dim: int, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(input_dim, width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.linear(x)))
