import pytest
import torch

from icebreaker.audio.fbank import Fbank
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.encoder_features import EncoderFeatures

CONFIG = EncoderConfig(
    subsampling_dim=8, width=12, heads=2, feed_forward_dim=16, layers=3, position_encoding="abs-enc"
)  # fmt: skip


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(CONFIG).eval()


@pytest.mark.parametrize("samples", [320, 640, 6399, 16000])
def test_fifty_frames_a_second(encoder: Encoder, samples: int) -> None:
    assert EncoderFeatures(encoder, 2)(torch.randn(samples)).shape == (samples // 320, 12)


def test_less_than_a_frame_has_none(encoder: Encoder) -> None:
    assert EncoderFeatures(encoder, 1)(torch.randn(319)).shape == (0, 12)


def test_even_frames_are_the_encoders_own(encoder: Encoder) -> None:
    """The first phase is the last layer of a plain pass over the shifted recording, before the final norm."""
    waveform = torch.randn(16000 + 200)
    frames = EncoderFeatures(encoder, 3)(waveform)
    fbank = Fbank()
    features, _ = fbank(waveform[None, 200:], fbank.initial_state(1))
    expected, _ = encoder.encode(features, torch.tensor([100]), chunk_size=0, left_chunks=-1)
    assert encoder.final_norm is not None
    torch.testing.assert_close(encoder.final_norm(frames[0:48:2]), expected[0, :24], atol=0.2, rtol=0)


def test_a_click_shows_in_its_own_frame(encoder: Encoder) -> None:
    waveform = torch.zeros(16000)
    clicked = waveform.clone()
    clicked[8160] = 0.5  # the middle of frame 25
    features = EncoderFeatures(encoder, 1)
    features.encoder.layers[0] = torch.nn.Module()  # no attention: only what the subsampling hears

    class Passing(torch.nn.Module):
        def forward(self, x: torch.Tensor, *_: object) -> tuple[torch.Tensor, None]:
            return x, None

    for index in range(3):
        features.encoder.layers[index] = Passing()
    difference = (features(clicked) - features(waveform)).abs().sum(dim=1)
    centre = float((difference * torch.arange(50)).sum() / difference.sum())
    assert centre == pytest.approx(25, abs=1.0)


def test_a_layer_that_is_not_there(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="a layer from 1 to 3, got 4"):
        EncoderFeatures(encoder, 4)
