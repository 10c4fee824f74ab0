"""Products of frames are what torch's convolutions are, whichever way they are made."""

import pytest
import torch
from torch.nn import functional as F

from icebreaker.nn.frame_conv import FrameConv


@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (2, 1), (3, 1), (7, 1), (3, 2), (7, 3)])
@pytest.mark.parametrize("frames", [1, 2, 5, 16, 41, 200])
@pytest.mark.parametrize(("channels", "outputs"), [(4, 6), (48, 16), (16, 1)])
def test_equals_conv1d(taps: int, dilation: int, frames: int, channels: int, outputs: int) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(outputs, channels, taps), torch.randn(outputs)
    layer = FrameConv(weight.permute(2, 1, 0).numpy(), bias.numpy(), dilation)
    assert layer.context == (taps - 1) * dilation
    x = torch.randn(layer.context + frames, channels)
    buffer = layer.buffer(frames)
    assert not buffer[len(x) :].any()
    buffer[: len(x)] = x.numpy()
    expected = F.conv1d(x.T[None], weight, bias, dilation=dilation)[0].T
    got = layer(buffer, frames)
    assert got.shape == (frames, outputs)
    torch.testing.assert_close(torch.from_numpy(got), expected, atol=1e-4, rtol=1e-5)


def test_both_ways_were_taken() -> None:
    layer = FrameConv(torch.randn(3, 48, 16).numpy(), torch.randn(16).numpy())
    assert len(layer.buffer(5)) == 5 + 2  # one product
    assert len(layer.buffer(41)) == 42 + 2  # three, of 14 outputs each
