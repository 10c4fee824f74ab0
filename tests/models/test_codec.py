"""The codec against the official implementation's stored results, and what callers may rely on."""

import pytest
import torch
from codec_golden import expected, official_codec
from torch import Tensor

from icebreaker.models.codec import Codec, CodecConfig, nearest
from icebreaker.models.codec_layers import add_weight_norm, fold_weight_norm

SMALL = CodecConfig(
    resblock="2", upsample_rates=(4, 3, 5, 2), upsample_kernel_sizes=(8, 7, 11, 4), upsample_initial_channel=32,
    resblock_kernel_sizes=(3, 5), resblock_dilation_sizes=((1, 2), (1, 3)), frame_dilations=(1, 2),
    codes=16, latent_dim=8, encoder="mel", encoder_channels=12, voice_codes=0, voice=(),
)  # fmt: skip


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return expected("expected/codec.npz")


@torch.no_grad()
def test_decoding_matches_the_official_codec(golden: dict[str, Tensor]) -> None:
    codec = official_codec()
    latents, voice = codec.embed(golden["tokens"], golden["global_tokens"][0].expand(2, -1))
    torch.testing.assert_close(latents, golden["quant_embed"])
    torch.testing.assert_close(voice[:1], golden["global_embed"])
    torch.testing.assert_close(codec.generator.frames(latents)[:1], golden["conv_pre"], atol=1e-5, rtol=1e-4)
    stage = codec.generator.ups[0](torch.nn.functional.leaky_relu(codec.generator.frames(latents), 0.1))
    blocks = codec.generator.stage_blocks(0)
    stage = torch.stack([block(stage) for block in blocks]).mean(dim=0)[:1, :, :80]  # so many columns are stored
    torch.testing.assert_close(stage, golden["stage0_no_global"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(stage + voice[:1, :, None], golden["stage0_with_global"], atol=1e-5, rtol=1e-4)
    waveform = codec.decode(golden["tokens"])  # with the voice of the configuration
    torch.testing.assert_close(waveform, golden["wav"][:, 0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_encoding_matches_the_official_codec(golden: dict[str, Tensor]) -> None:
    codec = official_codec()
    latents, voice = codec.encoder(golden["enc_in_24k"])
    torch.testing.assert_close(latents, golden["enc_features"], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(voice, golden["enc_global_features"], atol=1e-3, rtol=1e-4)
    codes, voice_codes = codec.encode(golden["enc_in_24k"])
    assert torch.equal(codes, golden["enc_tokens"][..., 0])
    assert torch.equal(voice_codes, golden["enc_global_tokens"][:, 0])
    quantised, voice_vector = codec.embed(codes, voice_codes)
    torch.testing.assert_close(quantised, golden["quantized"])
    torch.testing.assert_close(voice_vector, golden["global_quantized"])
    # The official loss weighs codebook 1 and commitment 0.25, of both quantisers; ours has no gradient to the codebook.
    distances = (latents - quantised).square().mean() + (voice - voice_vector).square().mean()
    torch.testing.assert_close(1.25 * distances, golden["quant_loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(codec.decode(codes, voice_codes), golden["recon"][:, 0], atol=1e-5, rtol=0)
    codes, voice_codes = codec.encode(golden["enc_batch_in"])
    assert torch.equal(codes, golden["enc_batch_tokens"][..., 0])
    assert torch.equal(voice_codes, golden["enc_batch_global"][:, 0])


@torch.no_grad()
def test_published_shape_matches_the_official_codec() -> None:
    codec, golden = official_codec("official-shape"), expected("official-shape/expected/codec.npz")
    assert codec.config == CodecConfig()
    assert sum(p.numel() for p in codec.generator.parameters()) == 15_369_857
    torch.testing.assert_close(codec.decode(golden["tokens"]), golden["wav"][:, 0], atol=1e-4, rtol=0)
    cut = codec.decode(golden["tokens"][:, :50])[:, : 40 * codec.config.hop_length]
    torch.testing.assert_close(cut, golden["wav_first50_cut40"][:, 0], atol=1e-4, rtol=0)
    latents, speaker = codec.encoder(golden["enc_in_24k"])
    torch.testing.assert_close(latents, golden["enc_features"], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(speaker, golden["enc_global_features"], atol=1e-3, rtol=1e-4)
    codes, voice = codec.encode(golden["enc_in_24k"])
    assert torch.equal(codes, golden["enc_tokens"][..., 0])
    assert torch.equal(voice, golden["enc_global_tokens"][:, 0])


@torch.no_grad()
def test_groups_and_residual_layers_round_trip() -> None:
    torch.manual_seed(0)
    config = CodecConfig(
        upsample_initial_channel=16, upsample_rates=(2, 2), upsample_kernel_sizes=(4, 4), resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1,),), codes=8, latent_dim=12, code_groups=2, residual_layers=2,
        encoder_channels=16, voice_codes=0, voice=(),
    )  # fmt: skip
    codec = Codec(config)
    latents = torch.randn(2, 12, 7)
    codes = codec.quantizer.quantise(latents)
    assert codes.shape == (2, 4, 7)
    first = torch.cat([codec.quantizer.books[g](codes[:, g]) for g in (0, 1)], dim=-1).mT
    assert torch.equal(codes[:, 2], nearest((latents - first).mT[..., :6], codec.quantizer.books[2].weight))
    assert (codec.quantizer.embed(codes) - latents).norm() < (first - latents).norm()
    assert codec.decode(codes).shape == (2, 28)
    with pytest.raises(ValueError, match=r"expected codes \[B, 4, T\]"):
        codec.decode(codes[:, 0])


@torch.no_grad()
def test_small_codec_keeps_lengths_and_rejects_misuse() -> None:
    codec = Codec(SMALL)
    assert SMALL.hop_length == 120
    codes, voice = codec.encode(torch.randn(2, 1000) * 0.1)
    assert codes.shape == (2, 8)
    assert voice is None
    assert codec.decode(codes).shape == (2, 960)
    with pytest.raises(ValueError, match="one voice"):
        codec.decode(codes, torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="at least 120 samples"):
        codec.encode(torch.zeros(1, 100))
    with pytest.raises(ValueError, match="even"):
        CodecConfig(upsample_kernel_sizes=(16, 11, 11, 4))


def test_weight_norm_folds_into_the_same_function() -> None:
    torch.manual_seed(1)
    codec = Codec(SMALL)
    names, codes = set(codec.state_dict()), torch.randint(16, (1, 5))
    before = codec.decode(codes)
    add_weight_norm(codec)
    with torch.no_grad():
        codec.generator.conv_pre.parametrizations.weight.original0.mul_(2)
    changed = codec.decode(codes)
    assert not torch.allclose(changed, before)
    fold_weight_norm(codec)
    torch.testing.assert_close(codec.decode(codes), changed)
    assert set(codec.state_dict()) == names
