"""Four feature frames to one encoder frame by two strided convolutions. Knows nothing of what comes after."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CONTEXT_FRAMES", "RATE", "Subsampling", "subsampled"]

RATE = 4
RECEPTIVE_FIELD = 7  # two 3-wide convolutions of stride 2
CONTEXT_FRAMES = RECEPTIVE_FIELD - RATE  # feature frames that come back with the next chunk


def subsampled(size: int) -> int:
    """What two unpadded 3-wide convolutions of stride 2 leave of ``size``."""
    return ((size - 1) // 2 - 1) // 2


class Subsampling(nn.Module):
    """Conv2d - ReLU - Conv2d - ReLU - Linear over time and mel bins (official implementation).

    Output frame t sees feature frames 4t .. 4t+6.
    """

    def __init__(self, mel_bins: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, stride=2)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2)
        self.linear = nn.Linear(width * subsampled(mel_bins), width)

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, F] features to [B, subsampled(T), width] frames; T is at least 7."""
        x = F.relu(self.conv1(features.unsqueeze(1)))
        x = F.relu(self.conv2(x))  # [B, width, T', F']
        linear: Tensor = self.linear(x.transpose(1, 2).flatten(2))  # channel-major, then mel bin
        return linear
