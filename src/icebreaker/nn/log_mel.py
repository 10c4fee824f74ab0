"""Log-mel spectrograms at any rate, for the codec. Knows nothing of the speech encoder's Kaldi features."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LogMel", "mel_filters"]

FLOOR = 1e-3  # of a mel band, before the logarithm: about -80 dB of full scale, so silence has no fine structure


def mel_filters(sample_rate: int, n_fft: int, mels: int) -> Tensor:
    """Triangular filters [n_fft // 2 + 1, mels], evenly spaced on 2595 log10(1 + f / 700), each of peak 1."""
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, mels + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp_min(0).float()


class LogMel(nn.Module):
    """Waveform [B, S] to natural-log mel magnitudes [B, M, S // hop]; frame t is centred on its hop."""

    filters: Tensor
    window: Tensor

    def __init__(self, sample_rate: int, n_fft: int, hop: int, mels: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("filters", mel_filters(sample_rate, n_fft, mels), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Pad by zeros so that S // hop windows fit, each centred in the middle of its hop."""
        return self.log(self.magnitude(waveform))

    def magnitude(self, waveform: Tensor) -> Tensor:
        """Magnitude spectrogram [B, n_fft // 2 + 1, S // hop]."""
        spare = self.n_fft - self.hop
        padded = F.pad(waveform, (spare // 2, spare - spare // 2))
        spectrum = torch.stft(
            padded, self.n_fft, self.hop, window=self.window, center=False, return_complex=True
        )  # [B, F, T]
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.sqrt(power + 1e-9)

    def log(self, magnitude: Tensor) -> Tensor:
        """Log-mel [B, M, T] of a magnitude spectrogram."""
        return torch.log((magnitude.mT @ self.filters).mT.clamp_min(FLOOR))
