"""Units to 16 kHz sound: a HiFi-GAN with a duration predictor, as LLaMA-Omni uses it. Knows nothing of streaming.

The generator is the codec's (models/codec.py), fed 50 frames a second from an embedding of units. Units come without
consecutive duplicates, so how long each lasts is predicted (arXiv:2409.06666v2, section 3.4; arXiv:2107.05604).
"""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.models.codec import Generator, GeneratorConfig

__all__ = ["DurationPredictor", "UnitVocoder", "UnitVocoderConfig"]

LAST_SLOPE = 0.01  # before the last convolution: the official code leaves it at PyTorch's default
NEIGHBOURS = 2  # units on each side that a duration depends on: two convolutions of 3


@dataclass(frozen=True, kw_only=True)
class UnitVocoderConfig(GeneratorConfig):
    """Sizes; the defaults are those of the official release.

    Attributes:
        units: how many different ones there are.
        latent_dim: width of a unit's embedding.
        frame_dilations: ours, as in ``CodecConfig``; the official vocoder has no block there.
        duration_hidden: inner width of the duration predictor.
        duration_kernel_size: of its convolutions.
    """

    units: int = 1000
    sample_rate: int = 16_000
    latent_dim: int = 128
    upsample_rates: tuple[int, ...] = (5, 4, 4, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (11, 8, 8, 4, 4)
    upsample_initial_channel: int = 512
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    resblock: Literal["1", "2"] = "1"
    frame_dilations: tuple[int, ...] = ()
    duration_hidden: int = 128
    duration_kernel_size: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.duration_kernel_size != 3:
            raise ValueError("duration_kernel_size must be 3: the second convolution's padding is that of 3")


class DurationPredictor(nn.Module):
    """Embedded units to the logarithm of one more than the frames each of them lasts."""

    def __init__(self, inputs: int, hidden: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, hidden, 3, padding=1)
        self.norm1 = nn.LayerNorm(hidden)
        self.conv2 = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.norm2 = nn.LayerNorm(hidden)
        self.project = nn.Linear(hidden, 1)
        self.dropout = dropout  # in training only
        for conv in (self.conv1, self.conv2):
            conv.plain = True  # type: ignore[assignment]  # no weight norm, see codec_layers.weight_normed

    def forward(self, embedded: Tensor) -> Tensor:
        """[B, N, D] to [B, N]."""
        x = F.relu(self.conv1(embedded.mT))
        x = F.dropout(self.norm1(x.mT), self.dropout, self.training)
        x = F.relu(self.conv2(x.mT))
        x = F.dropout(self.norm2(x.mT), self.dropout, self.training)
        predicted: Tensor = self.project(x).squeeze(-1)
        return predicted


class UnitVocoder(nn.Module):
    """Units to frames to sound."""

    def __init__(self, config: UnitVocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.units, config.latent_dim)
        self.duration = DurationPredictor(config.latent_dim, config.duration_hidden)
        self.generator = Generator(config, last_slope=LAST_SLOPE)

    def embed(self, codes: Tensor, voice: Tensor | None = None) -> tuple[Tensor, None]:
        """Units, one a frame, [B, T] to latents [B, D, T]: the interface that ``CodecStream`` shares with the codec.

        Raises:
            ValueError: a unit is unknown, or a voice is named where there is but one.
        """
        if voice is not None:
            raise ValueError("this vocoder has one voice: pass no voice codes")
        self._check(codes)
        return self.embedding(codes).mT, None

    def log_durations(self, units: Tensor) -> Tensor:
        """What the predictor says for units [B, N]: [B, N] natural logarithms of one more than their frames."""
        self._check(units)
        predicted: Tensor = self.duration(self.embedding(units))
        return predicted

    def durations(self, units: Tensor) -> Tensor:
        """Frames [B, N] that units [B, N] last, at least 1; halves round to even, as in the official code."""
        return (self.log_durations(units).exp() - 1).round().clamp_min(1).long()

    def decode(self, codes: Tensor, voice: Tensor | None = None) -> Tensor:
        """Units, one a frame, [B, T] to waveform [B, T * hop_length]."""
        waveform: Tensor = self.generator(*self.embed(codes, voice))
        return waveform

    def forward(self, units: Tensor, durations: Tensor | None = None) -> Tensor:
        """Speak one sequence.

        Args:
            units: [N] without consecutive duplicates; negative ones are dropped (official).
            durations: [N'] frames of each unit that is left; None: as predicted.

        Returns:
            Waveform [S] in [-1, 1] at ``sample_rate``; empty where there is no unit.

        Raises:
            ValueError: a unit is unknown.
        """
        units = units[units >= 0]
        if not len(units):
            return self.embedding.weight.new_zeros(0)
        frames = self.durations(units[None])[0] if durations is None else durations
        return self.decode(units.repeat_interleave(frames)[None])[0]

    def _check(self, units: Tensor) -> None:
        if units.numel() and not 0 <= int(units.min()) <= int(units.max()) < self.config.units:
            raise ValueError(
                f"expected units from 0 to {self.config.units - 1}, got {int(units.min())} to {int(units.max())}; "
                "use the vocoder that was trained on these units"
            )
