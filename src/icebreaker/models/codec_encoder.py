"""The codec's analysis half: waveform to one latent vector per code. Knows nothing of codebooks."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icebreaker.models.codec_layers import SLOPE, ResidualBlock1, ResidualBlock2, same_conv
from icebreaker.nn.log_mel import LogMel

__all__ = ["MelEncoder", "VoiceEncoder", "WaveformEncoder"]

LAST_SLOPE = 0.01  # the official encoder's last leaky ReLU keeps PyTorch's default
CHANNELS_PER_GROUP = 16  # of the official encoder's group norms


class VoiceEncoder(nn.Module):
    """The official global branch: features [B, C, T] at the second stage to one vector [B, D] per recording."""

    def __init__(self, inputs: int, hidden: int, outputs: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        widths = (inputs, hidden, hidden, outputs)
        self.convs = nn.ModuleList(
            nn.Conv1d(a, b, kernel_size, stride, (kernel_size - stride) // 2, bias=False)
            for a, b in itertools.pairwise(widths)
        )
        for conv in self.convs:
            conv.plain = True  # type: ignore[assignment]  # no weight norm
        self.linear = nn.Linear(outputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, T] to [B, D]."""
        for conv in self.convs:
            features = F.leaky_relu(conv(features), SLOPE)
        normalised: Tensor = self.norm(F.leaky_relu(self.linear(features.mean(dim=-1)), SLOPE))
        return normalised


class WaveformEncoder(nn.Module):
    """The official encoder: strided convolutions with the generator's rates reversed, width doubling at each stage."""

    def __init__(
        self,
        latent_dim: int,
        channels: int,
        rates: tuple[int, ...],
        kernel_sizes: tuple[int, ...],
        blocks: tuple[tuple[int, tuple[int, ...]], ...],
        block_type: type[ResidualBlock1] | type[ResidualBlock2],
        voice: VoiceEncoder | None,
    ) -> None:
        """All of ``rates``, ``kernel_sizes`` and ``blocks`` (kernel size, dilations) come in the generator's order."""
        super().__init__()
        self.conv_pre = same_conv(1, channels, 7)
        self.downs, self.blocks, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for rate, kernel_size in zip(reversed(rates), reversed(kernel_sizes), strict=True):
            padding = (kernel_size - rate) // 2
            self.downs.append(nn.Conv1d(channels, 2 * channels, kernel_size, rate, padding))
            channels *= 2
            for size, dilations in reversed(blocks):
                self.blocks.append(block_type(channels, size, dilations))
                self.norms.append(nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels, eps=1e-6))
        self.conv_post = same_conv(channels, latent_dim, 3)
        self.conv_post.plain = True  # type: ignore[assignment]  # no weight norm in the official files
        self.voice = voice

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encode waveform [B, S], S at least one hop.

        Returns:
            Latents [B, D, S // hop], and a voice vector [B, D_voice] or None.
        """
        x = self.conv_pre(waveform[:, None])
        voice, voice_stage, per_stage = None, len(self.downs) // 2 - 1, len(self.blocks) // len(self.downs)
        for stage, down in enumerate(self.downs):
            x = down(F.leaky_relu(x, SLOPE))
            total: Tensor | None = None
            for index in range(stage * per_stage, (stage + 1) * per_stage):
                block = self.blocks[index](x)
                # The norm goes over the running sum, so the blocks are nested rather than averaged.
                total = self.norms[index](block if total is None else total + block)
            assert total is not None
            x = total / per_stage
            if stage == voice_stage and self.voice is not None:
                voice = self.voice(x)
        return self.conv_post(F.leaky_relu(x, LAST_SLOPE)), voice


class MelEncoder(nn.Module):
    """Ours, for small codecs: log-mel features in, so that little has to be learnt before the codes mean something."""

    FRAMES_PER_CODE = 4
    MELS = 80
    MEAN, SCALE = -5.0, 0.4  # bring log-mel values near zero mean and unit variance

    def __init__(self, latent_dim: int, channels: int, sample_rate: int, hop_length: int, blocks: int) -> None:
        super().__init__()
        self.log_mel = LogMel(sample_rate, 1024, hop_length // self.FRAMES_PER_CODE, self.MELS)
        self.conv_pre = same_conv(self.MELS, channels, 5)
        self.down = nn.Conv1d(
            channels, channels, 2 * self.FRAMES_PER_CODE, self.FRAMES_PER_CODE, self.FRAMES_PER_CODE // 2
        )
        self.blocks = nn.ModuleList(ResidualBlock1(channels, 3, (1,)) for _ in range(blocks))
        self.conv_post = same_conv(channels, latent_dim, 3)

    def forward(self, waveform: Tensor) -> tuple[Tensor, None]:
        """Encode waveform [B, S]: latents [B, D, S // hop], and no voice."""
        with torch.no_grad():
            features = (self.log_mel(waveform) - self.MEAN) * self.SCALE  # [B, M, 4 T]
        x = self.down(F.leaky_relu(self.conv_pre(features), SLOPE))
        for block in self.blocks:
            x = block(x)
        return self.conv_post(F.leaky_relu(x, SLOPE)), None
