"""Layers of the codec's two halves: residual blocks, up- and downsampling, weight norm. Knows nothing of codes.

After the official implementation's HiFi-GAN-like generator. Convolutions here are plain; ``add_weight_norm`` makes them
weight-normed for training and ``fold_weight_norm`` makes them plain again, so inference never recomputes a weight.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

__all__ = [
    "SLOPE",
    "ResidualBlock1",
    "ResidualBlock2",
    "add_weight_norm",
    "fold_weight_norm",
    "same_conv",
    "upsampling_conv",
    "weight_normed",
]

SLOPE = 0.1  # of every leaky ReLU but one, see models/codec_encoder.py


def same_conv(inputs: int, outputs: int, kernel_size: int, dilation: int = 1) -> nn.Conv1d:
    """Convolution that keeps the length, zeros around."""
    padding = (kernel_size - 1) * dilation // 2
    return nn.Conv1d(inputs, outputs, kernel_size, dilation=dilation, padding=padding)


def upsampling_conv(inputs: int, outputs: int, kernel_size: int, rate: int) -> nn.ConvTranspose1d:
    """Transposed convolution that multiplies the length by ``rate``; kernel_size - rate is even."""
    return nn.ConvTranspose1d(inputs, outputs, kernel_size, rate, padding=(kernel_size - rate) // 2)


class ResidualBlock1(nn.Module):
    """Per dilation: leaky ReLU, dilated convolution, leaky ReLU, plain convolution, added to the input [B, C, T]."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(same_conv(channels, channels, kernel_size, d) for d in dilations)
        self.convs2 = nn.ModuleList(same_conv(channels, channels, kernel_size) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] to [B, C, T]."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class ResidualBlock2(nn.Module):
    """Per dilation: leaky ReLU and one dilated convolution, added to the input [B, C, T]: the cheap form."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(same_conv(channels, channels, kernel_size, d) for d in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] to [B, C, T]."""
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, SLOPE))
        return x


def weight_normed(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The convolutions that carry weight norm in the official files: all but those marked ``plain``."""
    for name, child in module.named_modules():
        if isinstance(child, nn.Conv1d | nn.ConvTranspose1d) and not getattr(child, "plain", False):
            yield name, child


def add_weight_norm(module: nn.Module) -> None:
    """Split each convolution's weight into length and direction, for training."""
    for _, conv in list(weight_normed(module)):
        parametrizations.weight_norm(conv, dim=0)


def fold_weight_norm(module: nn.Module) -> None:
    """Undo ``add_weight_norm``: weights are plain parameters again, with their present values."""
    for child in list(module.modules()):
        if parametrize.is_parametrized(child, "weight"):
            parametrize.remove_parametrizations(child, "weight")
