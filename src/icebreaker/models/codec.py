"""The speech codec: codes to waveform and back (arXiv:2411.00774, speech output; shapes of the official
implementation). Knows nothing of streaming (models/codec_stream.py), training or files.

One code stands for ``hop_length`` samples (official: 600 at 24 kHz, 40 codes a second). A voice is a few more codes for
the whole recording; the official pipeline always uses one fixed voice, which is in the configuration.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icebreaker.models.codec_encoder import MelEncoder, VoiceEncoder, WaveformEncoder
from icebreaker.models.codec_layers import SLOPE, ResidualBlock1, ResidualBlock2, same_conv, upsampling_conv

__all__ = ["Codec", "CodecConfig", "Generator", "GeneratorConfig", "Quantizer"]


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Sizes of a ``Generator``, and of the sound it makes."""

    sample_rate: int
    resblock: Literal["1", "2"]
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    upsample_initial_channel: int
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    frame_dilations: tuple[int, ...]
    latent_dim: int

    def __post_init__(self) -> None:
        if len(self.upsample_rates) != len(self.upsample_kernel_sizes):
            raise ValueError("upsample_rates and upsample_kernel_sizes differ in length")
        if any((k - u) % 2 or k < u for u, k in zip(self.upsample_rates, self.upsample_kernel_sizes, strict=True)):
            raise ValueError("each upsample kernel size minus its rate must be even and not negative")
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise ValueError("resblock_kernel_sizes and resblock_dilation_sizes differ in length")

    @property
    def hop_length(self) -> int:
        """Samples per code."""
        return math.prod(self.upsample_rates)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Width after each upsampling stage."""
        return tuple(self.upsample_initial_channel >> (stage + 1) for stage in range(len(self.upsample_rates)))


@dataclass(frozen=True, kw_only=True)
class CodecConfig(GeneratorConfig):
    """Sizes of a codec; the defaults are those of the official release."""

    sample_rate: int = 24_000
    resblock: Literal["1", "2"] = "1"
    upsample_rates: tuple[int, ...] = (8, 5, 5, 3)
    upsample_kernel_sizes: tuple[int, ...] = (16, 11, 11, 5)
    upsample_initial_channel: int = 512
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    frame_dilations: tuple[int, ...] = ()  # ours: a residual block at code rate, before any upsampling
    codes: int = 1024
    code_groups: int = 1
    residual_layers: int = 1
    latent_dim: int = 512
    encoder: Literal["waveform", "mel"] = "waveform"  # "mel" is ours
    encoder_channels: int = 32
    encoder_blocks: int = 2  # of the mel encoder
    voice_codes: int = 8  # 0: one voice only, nothing to choose
    voice_dim: int = 128
    voice_hidden: int = 64
    voice: tuple[int, ...] = (473, 975, 419, 219, 565, 121, 550, 616)  # spoken with when the caller names none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent_dim % self.code_groups or (self.voice_codes and self.voice_dim % self.voice_codes):
            raise ValueError("latent_dim must divide by code_groups, and voice_dim by voice_codes")
        if len(self.voice) != self.voice_codes:
            raise ValueError(f"voice has {len(self.voice)} codes, voice_codes is {self.voice_codes}")
        if self.voice_codes and self.voice_dim not in self.stage_channels:
            raise ValueError(f"no generator stage has voice_dim {self.voice_dim} channels: {self.stage_channels}")
        if self.voice_codes and self.encoder == "mel":
            raise ValueError("the mel encoder knows no voices: set voice_codes to 0 and voice to []")

    @property
    def codebooks(self) -> int:
        """K, codes per frame."""
        return self.code_groups * self.residual_layers


class Quantizer(nn.Module):
    """Codebooks: per residual layer one for each group of dimensions, and one for each voice code."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.groups, self.layers = config.code_groups, config.residual_layers
        width = config.latent_dim // config.code_groups
        self.books = nn.ModuleList(nn.Embedding(config.codes, width) for _ in range(config.codebooks))
        self.voice_books = nn.ModuleList(
            nn.Embedding(config.codes, config.voice_dim // config.voice_codes) for _ in range(config.voice_codes)
        )

    def codebook(self, index: int) -> Tensor:
        """Rows [N, D / groups] of one codebook; not a copy."""
        book = self.books[index]
        assert isinstance(book, nn.Embedding)
        return book.weight

    def embed(self, codes: Tensor) -> Tensor:
        """Codes [B, K, T] to latents [B, D, T]: groups side by side, residual layers summed."""
        parts = [book(codes[:, k]) for k, book in enumerate(self.books)]  # K of [B, T, D / groups]
        layers = [torch.cat(parts[i : i + self.groups], dim=-1) for i in range(0, len(parts), self.groups)]
        return torch.stack(layers).sum(dim=0).mT

    def embed_voice(self, voice: Tensor) -> Tensor:
        """Voice codes [B, n] to vectors [B, D_voice]."""
        return torch.cat([book(voice[:, j]) for j, book in enumerate(self.voice_books)], dim=-1)

    def quantise(self, latents: Tensor) -> Tensor:
        """Nearest codes [B, K, T] of latents [B, D, T]; each residual layer codes what the ones before left over."""
        residual, codes = latents.mT, list[Tensor]()
        for layer in range(self.layers):
            books = [self.codebook(layer * self.groups + group) for group in range(self.groups)]
            found = [nearest(part, book) for part, book in zip(residual.chunk(self.groups, -1), books, strict=True)]
            residual = residual - torch.cat([book[code] for book, code in zip(books, found, strict=True)], dim=-1)
            codes += found
        return torch.stack(codes, dim=1)

    def quantise_voice(self, voice: Tensor) -> Tensor:
        """Nearest voice codes [B, n] of voice vectors [B, D_voice]."""
        parts = voice.chunk(len(self.voice_books), dim=-1)
        books = [book.get_parameter("weight") for book in self.voice_books]
        return torch.stack([nearest(part, book) for part, book in zip(parts, books, strict=True)], dim=-1)


def nearest(vectors: Tensor, book: Tensor) -> Tensor:
    """Index [...] of the row of ``book`` [N, D] nearest to each of ``vectors`` [..., D]; the first of equals."""
    distances = vectors.square().sum(-1, keepdim=True) - 2 * vectors @ book.T + book.square().sum(-1)
    return distances.argmin(dim=-1)


class Generator(nn.Module):
    """Latents [B, D, T] to waveform [B, S]: upsampling stages, each with parallel residual blocks averaged.

    ``voice_dim`` is the width of the stage that a voice is added to; ``last_slope`` that of the leaky ReLU before the
    last convolution.
    """

    def __init__(self, config: GeneratorConfig, voice_dim: int | None = None, last_slope: float = SLOPE) -> None:
        super().__init__()
        channels = config.upsample_initial_channel
        block = ResidualBlock1 if config.resblock == "1" else ResidualBlock2
        self.last_slope = last_slope
        self.voice_dim = voice_dim
        self.conv_pre = same_conv(config.latent_dim, channels, 7)
        self.frame_block = ResidualBlock1(channels, 3, config.frame_dilations) if config.frame_dilations else None
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.ups.append(upsampling_conv(channels, channels // 2, kernel_size, rate))
            channels //= 2
            for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True):
                self.blocks.append(block(channels, size, dilations))
        self.conv_post = same_conv(channels, 1, 7)

    def stage_blocks(self, stage: int) -> nn.ModuleList:
        """The parallel residual blocks after upsampling ``stage``."""
        count = len(self.blocks) // len(self.ups)
        return self.blocks[stage * count : (stage + 1) * count]

    def forward(self, latents: Tensor, voice: Tensor | None) -> Tensor:
        """Synthesise.

        Args:
            latents: [B, D, T].
            voice: [B, D_voice], added where the width equals D_voice, or None.

        Returns:
            Waveform [B, T * hop_length] in [-1, 1].
        """
        return self.upsample(self.frames(latents), voice)

    def frames(self, latents: Tensor) -> Tensor:
        """The part at code rate: latents [B, D, T] to [B, C, T]."""
        x: Tensor = self.conv_pre(latents)
        return x if self.frame_block is None else self.frame_block(x)

    def upsample(self, x: Tensor, voice: Tensor | None) -> Tensor:
        """The rest: [B, C, T] from ``frames`` to waveform [B, T * hop_length]."""
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            blocks = self.stage_blocks(stage)
            x = torch.stack([block(x) for block in blocks]).sum(dim=0) / len(blocks)
            if voice is not None and x.shape[1] == self.voice_dim:
                x = x + voice[:, :, None]
        return torch.tanh(self.conv_post(F.leaky_relu(x, self.last_slope))).squeeze(1)


class Codec(nn.Module):
    """Both directions. ``codes`` are [B, T], or [B, K, T] where there are K > 1 codebooks."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = Quantizer(config)
        self.generator = Generator(config, config.voice_dim if config.voice_codes else None)
        self.encoder = build_encoder(config)

    def embed(self, codes: Tensor, voice: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Latents [B, D, T] and the voice vector [B, D_voice]; without ``voice`` [B, n], the configured one.

        Raises:
            ValueError: the shape does not fit, or a voice is named where there is but one.
        """
        frames = codes[:, None] if codes.dim() == 2 else codes
        if frames.dim() != 3 or frames.shape[1] != self.config.codebooks:
            raise ValueError(f"expected codes [B, {self.config.codebooks}, T], got {tuple(codes.shape)}")
        if not self.config.voice_codes:
            if voice is not None:
                raise ValueError("this codec has one voice: pass no voice codes")
            return self.quantizer.embed(frames), None
        if voice is None:
            voice = codes.new_tensor(self.config.voice).expand(len(codes), -1)
        return self.quantizer.embed(frames), self.quantizer.embed_voice(voice)

    def decode(self, codes: Tensor, voice: Tensor | None = None) -> Tensor:
        """Codes [B, T] or [B, K, T], voice codes [B, n] or None, to waveform [B, T * hop_length]."""
        waveform: Tensor = self.generator(*self.embed(codes, voice))
        return waveform

    def encode(self, waveform: Tensor) -> tuple[Tensor, Tensor | None]:
        """Waveform [B, S] at ``sample_rate`` to codes [B, S // hop] ([B, K, S // hop]) and voice codes [B, n].

        Raises:
            ValueError: less than one hop of audio.
        """
        if waveform.dim() != 2 or waveform.shape[1] < self.config.hop_length:
            raise ValueError(
                f"expected waveform [B, S] of at least {self.config.hop_length} samples, got {tuple(waveform.shape)}"
            )
        latents, voice = self.encoder(waveform)
        codes = self.quantizer.quantise(latents)
        voice_codes = self.quantizer.quantise_voice(voice) if voice is not None else None
        return codes.squeeze(1) if self.config.codebooks == 1 else codes, voice_codes


def build_encoder(config: CodecConfig) -> WaveformEncoder | MelEncoder:
    """The analysis half that ``config`` asks for."""
    if config.encoder == "mel":
        return MelEncoder(
            config.latent_dim, config.encoder_channels, config.sample_rate, config.hop_length, config.encoder_blocks
        )
    voice_stage = len(config.upsample_rates) // 2
    width = config.encoder_channels << voice_stage  # of the stage the voice is read from
    return WaveformEncoder(
        config.latent_dim,
        config.encoder_channels,
        config.upsample_rates,
        config.upsample_kernel_sizes,
        tuple(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)),
        ResidualBlock1 if config.resblock == "1" else ResidualBlock2,
        VoiceEncoder(width, config.voice_hidden, config.voice_dim) if config.voice_codes else None,
    )
