"""Small judges of audio: by period and by spectrogram. Know nothing of what made it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icebreaker.models.codec_layers import SLOPE

__all__ = ["Discriminators", "PeriodDiscriminator", "SpectrogramDiscriminator"]

GAIN = 10.0  # speech at the training level comes to about 1, where convolutions start to learn at once
COMPRESSION = 0.3  # power of a spectrum's magnitudes that is looked at: quiet parts count too


class PeriodDiscriminator(nn.Module):
    """Folds the waveform into rows of ``period`` samples and looks down the columns."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, channels, 2 * channels, 4 * channels, 4 * channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], (5, 1), (3 if i < 3 else 1, 1), (2, 0)) for i in range(4)
        )
        self.score = nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0))

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores and inner features of waveform [B, S]."""
        x = F.pad(GAIN * waveform, (0, -waveform.shape[1] % self.period))
        return _judge(x.view(len(x), 1, -1, self.period), self.convs, self.score)


class SpectrogramDiscriminator(nn.Module):
    """Looks at real and imaginary parts of a short-time spectrum as a two-channel picture."""

    window: Tensor

    def __init__(self, n_fft: int, channels: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        widths = (2, channels, channels, channels, channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], (3, 7), (1, 2), (1, 3)) for i in range(4)
        )  # time x frequency
        self.score = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores and inner features of waveform [B, S]."""
        spectrum = torch.stft(  # there is none in half precision
            waveform.float(), self.n_fft, self.n_fft // 4, window=self.window, center=False, return_complex=True
        )
        picture = torch.stack([spectrum.real, spectrum.imag], dim=1).mT  # [B, 2, T, F]
        power = picture.square().sum(dim=1, keepdim=True) + 1e-4
        picture = picture * power ** ((COMPRESSION - 1) / 2)
        return _judge(picture, self.convs, self.score)


class Discriminators(nn.Module):
    """All judges together; ``forward`` gives one score per judge and all their features."""

    def __init__(self, periods: tuple[int, ...], windows: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.judges = nn.ModuleList(
            [
                *(PeriodDiscriminator(p, channels) for p in periods),
                *(SpectrogramDiscriminator(n, channels) for n in windows),
            ]
        )

    def forward(self, waveform: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Waveform [B, S] to a score tensor per judge, and inner features of all."""
        scores, features = [], []
        for judge in self.judges:
            score, inner = judge(waveform)
            scores.append(score)
            features += inner
        return scores, features


def _judge(x: Tensor, convs: nn.ModuleList, score: nn.Module) -> tuple[Tensor, list[Tensor]]:
    features = []
    for conv in convs:
        x = F.leaky_relu(conv(x), SLOPE)
        features.append(x)
    return score(x), features
