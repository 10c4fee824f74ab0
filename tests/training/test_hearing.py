import numpy as np
import pytest
import torch

from icebreaker.audio.fbank import Fbank
from icebreaker.audio.whisper_mel import WhisperMel
from icebreaker.errors import DataError
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.whisper_encoder import WhisperConfig, WhisperEncoder
from icebreaker.training.hearing import ChunkedEars, WhisperEars

CONFIG = EncoderConfig(subsampling_dim=8, width=12, heads=2, feed_forward_dim=16, layers=2, position_encoding="abs-enc")


def noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(16000 * seconds)).astype(np.float32)


def test_our_ears_hear_what_the_deployed_ones_hear() -> None:
    torch.manual_seed(0)
    ears, sound = ChunkedEars(Encoder(CONFIG)), noise(1.28, 0)
    heard = ears([sound, noise(0.5, 1)])
    assert heard.lengths.tolist() == [32, 13]
    fbank = Fbank()
    state, encoder_state, streamed = fbank.initial_state(1), ears.encoder.initial_state(1), []
    for piece in torch.from_numpy(sound)[None].split(2560, dim=1):
        features, state = fbank(piece, state)
        frames, encoder_state = ears.encoder(features, encoder_state)
        streamed.append(frames)
    torch.testing.assert_close(heard.frames[0], torch.cat(streamed, dim=1)[0], atol=1e-4, rtol=1e-4)


def test_a_row_does_not_hear_its_neighbour() -> None:
    torch.manual_seed(0)
    ears, short = ChunkedEars(Encoder(CONFIG)), noise(0.4, 2)
    alone, beside = ears([short]), ears([noise(1.0, 3), short])
    torch.testing.assert_close(alone.frames[0], beside.frames[1, :10], atol=1e-5, rtol=1e-5)


def test_whispers_ears_hear_thirty_seconds() -> None:
    torch.manual_seed(0)
    ears = WhisperEars(WhisperEncoder(WhisperConfig(mels=80, width=8, heads=2, layers=1)).eval())
    heard = ears([noise(0.5, 0), noise(1.0, 1)])
    assert heard.frames.shape == (2, 1500, 8)
    assert heard.lengths.tolist() == [1500, 1500]
    expected = ears.encoder(WhisperMel(80)(torch.from_numpy(noise(1.0, 1))[None]))
    torch.testing.assert_close(heard.frames[1:], expected)
    with pytest.raises(DataError, match=r"a question of 30.5 s; Whisper hears 30 s"):
        ears([noise(30.5, 0)])
