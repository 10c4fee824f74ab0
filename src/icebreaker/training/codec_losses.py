"""What a reconstructed waveform is judged by: spectrograms, and discriminators' opinions. Knows nothing of codecs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icebreaker.nn.log_mel import LogMel
from icebreaker.training.processes import mean_tensor

__all__ = ["SpectralLoss", "discriminator_loss", "feature_matching", "generator_loss"]

RESOLUTIONS = ((512, 128, 40), (1024, 256, 80), (2048, 512, 128))  # n_fft, hop, mels


class SpectralLoss(nn.Module):
    """L1 of log-mels plus L1 of log magnitudes, averaged over several window lengths."""

    def __init__(self, sample_rate: int, resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS) -> None:
        super().__init__()
        self.scales = nn.ModuleList(LogMel(sample_rate, n_fft, hop, mels) for n_fft, hop, mels in resolutions)

    def forward(self, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Compare waveforms [B, S], in float32: the log-mel distance and the log-magnitude distance, scalars."""
        with torch.autocast(made.device.type, enabled=False):
            return self._distances(made.float(), real.float())

    def _distances(self, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        mel, magnitude = made.new_zeros(()), made.new_zeros(())
        for scale in self.scales:
            assert isinstance(scale, LogMel)
            a = scale.magnitude(made)
            with torch.no_grad():
                b = scale.magnitude(real)
                log_mel = scale.log(b)
            mel = mel + F.l1_loss(scale.log(a), log_mel)
            magnitude = magnitude + F.l1_loss(torch.log(a + 1e-2), torch.log(b + 1e-2))
        return mel / len(self.scales), magnitude / len(self.scales)


def discriminator_loss(real: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """Least squares: scores of real audio towards 1, of made audio towards 0; the mean over discriminators."""
    losses = [(1 - r).square().mean() + m.square().mean() for r, m in zip(real, made, strict=True)]
    return torch.stack(losses).mean()


def generator_loss(made: Sequence[Tensor]) -> Tensor:
    """Least squares: scores of made audio towards 1."""
    return torch.stack([(1 - m).square().mean() for m in made]).mean()


def feature_matching(real: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """Mean L1 between the discriminators' inner features, each relative to the size of the real one in all rows."""
    sizes = mean_tensor(torch.stack([r.abs().mean() for r in real]))
    losses = [F.l1_loss(m, r) / (size + 1e-4) for r, m, size in zip(real, made, sizes, strict=True)]
    return torch.stack(losses).mean()
