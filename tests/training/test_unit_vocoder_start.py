from dataclasses import replace

import pytest
import torch

from icebreaker.errors import ConfigError
from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.models.unit_vocoder import UnitVocoder, UnitVocoderConfig
from icebreaker.training.unit_vocoder_start import mean_latents, resampled, start_as_codec

CODEC = CodecConfig(
    sample_rate=2000, upsample_rates=(8, 5), upsample_kernel_sizes=(16, 11), upsample_initial_channel=16,
    resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),), resblock="2", codes=6, latent_dim=8, encoder="mel",
    encoder_channels=8, encoder_blocks=1, voice_codes=0, voice=(),
)  # fmt: skip
VOCODER = UnitVocoderConfig(
    units=4, sample_rate=2000, latent_dim=8, upsample_rates=(8, 4), upsample_kernel_sizes=(16, 8),
    upsample_initial_channel=16, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),), resblock="2",
)  # fmt: skip


@pytest.fixture
def codec() -> Codec:
    torch.manual_seed(0)
    return Codec(CODEC).eval()


def test_with_the_codecs_rates_a_vocoder_sounds_like_it(codec: Codec) -> None:
    vocoder = UnitVocoder(replace(VOCODER, upsample_rates=(8, 5), upsample_kernel_sizes=(16, 11))).eval()
    frames, waveform = torch.tensor([[0, 1, 1, 2, 0, 1]]), torch.randn(1, 240)
    start_as_codec(vocoder, codec, [(frames, waveform)])
    vocoder.generator.last_slope = codec.generator.last_slope  # the published vocoder's last ReLU leaks less
    latents = vocoder.embedding(frames).mT
    torch.testing.assert_close(vocoder.decode(frames), codec.generator(latents, None))


def test_other_rates_keep_every_layer_but_the_kernels_of_other_lengths(codec: Codec) -> None:
    vocoder = UnitVocoder(VOCODER)
    start_as_codec(vocoder, codec, [(torch.tensor([[0, 1, 2, 3]]), torch.randn(1, 160))])
    mine, theirs = vocoder.generator.state_dict(), codec.generator.state_dict()
    other = [name for name in mine if mine[name].shape != theirs[name].shape]
    assert other == ["ups.1.weight"]
    assert all(torch.equal(mine[name], theirs[name]) for name in mine if name not in other)
    assert torch.equal(mine["ups.1.weight"], resampled(theirs["ups.1.weight"], 8))


def test_a_kernel_is_cut_around_its_middle() -> None:
    ramp = torch.arange(11.0).expand(2, 3, 11)
    torch.testing.assert_close(resampled(ramp, 8), (torch.arange(8.0) + 1.5).expand(2, 3, 8))
    torch.testing.assert_close(resampled(ramp, 7), (torch.arange(7.0) + 2).expand(2, 3, 7))
    assert torch.equal(resampled(ramp, 11), ramp)


def test_an_embedding_is_the_mean_latent_of_its_sound(codec: Codec) -> None:
    waveform = torch.randn(1, 4 * 40)
    latents = codec.encoder(waveform)[0][0].mT  # [4, D], as many as frames
    found = mean_latents(codec, [(torch.tensor([[2, 0, 2, 2]]), waveform)], 4)
    torch.testing.assert_close(found[0], latents[1])
    torch.testing.assert_close(found[2], latents[[0, 2, 3]].mean(dim=0))
    for absent in (1, 3):
        torch.testing.assert_close(found[absent], latents.mean(dim=0))


def test_other_shapes_are_refused(codec: Codec) -> None:
    with pytest.raises(ConfigError, match=r"model\.latent_dim is 12, the codec to begin as has 8"):
        start_as_codec(UnitVocoder(replace(VOCODER, latent_dim=12)), codec, [])
    three = replace(VOCODER, upsample_rates=(8, 2, 2), upsample_kernel_sizes=(16, 4, 4))
    with pytest.raises(ConfigError, match="as many upsampling stages"):
        start_as_codec(UnitVocoder(three), codec, [])
