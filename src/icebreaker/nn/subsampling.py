"""Four feature frames to one encoder frame by two strided convolutions. Knows nothing of what comes after."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CONTEXT_FRAMES", "RATE", "Subsampling", "subsampled"]

RATE = 4
RECEPTIVE_FIELD = 7  # two 3-wide convolutions of stride 2
CONTEXT_FRAMES = RECEPTIVE_FIELD - RATE  # feature frames that come back with the next chunk
FEW_OUTPUTS = 1024  # frames times mel bins, over the batch


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
        frames, bins = subsampled(features.shape[1]), subsampled(features.shape[2])
        few = len(x) * frames * bins <= FEW_OUTPUTS and x.device.type == "cpu"
        x = F.relu(self._conv2_as_product(x, frames) if few else self.conv2(x))  # [B, width, T', F']
        linear: Tensor = self.linear(x.transpose(1, 2).flatten(2))  # channel-major, then mel bin
        return linear

    def _conv2_as_product(self, x: Tensor, frames: int) -> Tensor:
        # On a CPU the convolution lays its weights out anew at each call: half the time of a chunk at width 1024.
        columns = F.unfold(x, 3, stride=2)  # [B, 9 width, T' * F']
        product = F.linear(columns.mT, self.conv2.weight.flatten(1), self.conv2.bias)
        outputs: Tensor = product.mT.unflatten(2, (frames, -1))
        return outputs
