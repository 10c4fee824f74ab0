"""A few codes in NumPy are what torch makes of them, from the same state: rows that start, pause and end."""

from typing import Any

import pytest
import torch
from torch import Tensor

from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.models.codec_few_codes import few_codes_of
from icebreaker.models.codec_stream import CodecStream
from icebreaker.nn.frame_conv import Array, FrameConv

CONFIGS = {
    "one voice": CodecConfig(
        resblock="2", upsample_rates=(5, 4, 3), upsample_kernel_sizes=(11, 8, 7), upsample_initial_channel=32,
        resblock_kernel_sizes=(3, 7), resblock_dilation_sizes=((1, 3), (1, 3)), frame_dilations=(1, 2),
        codes=16, latent_dim=8, encoder="mel", encoder_channels=12, voice_codes=0, voice=(),
    ),
    "voices": CodecConfig(
        upsample_rates=(8, 5, 3), upsample_kernel_sizes=(16, 11, 5), upsample_initial_channel=32,
        resblock_kernel_sizes=(7, 3, 3), resblock_dilation_sizes=((1, 3), (1, 2), (1, 1)), codes=16, latent_dim=8,
        encoder_channels=16, voice_codes=2, voice_dim=16, voice_hidden=4, voice=(3, 5),
    ),
}  # fmt: skip


@pytest.fixture(params=CONFIGS, scope="module")
def codec(request: pytest.FixtureRequest) -> Codec:
    torch.manual_seed(3)
    codec = Codec(CONFIGS[request.param]).requires_grad_(False)
    for name, parameter in codec.named_parameters():  # livelier than the initial values: edges would show
        parameter.mul_(1.5 if name.endswith("bias") else 1.2)
    return codec


def streams(codec: Codec) -> tuple[CodecStream, CodecStream]:
    """The NumPy form, and the torch form."""
    ours, plain = CodecStream(codec), CodecStream(codec)
    assert ours.few_codes is not None
    plain.few_codes = None
    return ours, plain


@pytest.mark.parametrize("exchanged", [False, True])
def test_says_the_same_from_the_same_state(codec: Codec, exchanged: bool) -> None:
    ours, plain = streams(codec)
    state, expected_state = ours.initial_state(3), plain.initial_state(3)
    calls = [
        ([5, 0, 7], [False, False, False]),
        ([1, 9, 30], [False, False, False]),
        ([0, 0, 0], [False, False, True]),
        ([4, 0, 2], [True, False, False]),
        ([0, 3, 0], [False, True, False]),
        ([2, 2, 2], [True, True, True]),
    ]
    for number, (counts, ends) in enumerate(calls):
        lengths, last = torch.tensor(counts), torch.tensor(ends)
        codes = torch.randint(16, (3, max(1, *counts)), generator=torch.Generator().manual_seed(number))
        waveform, samples, state = ours(codes, lengths, last, state)
        expected, expected_samples, expected_state = plain(codes, lengths, last, expected_state)
        assert torch.equal(samples, expected_samples)
        for row, count in enumerate(samples.tolist()):
            torch.testing.assert_close(waveform[row, :count], expected[row, :count], atol=1e-5, rtol=0)
        assert torch.equal(state.fed, expected_state.fed)
        torch.testing.assert_close(state.contexts, expected_state.contexts, atol=1e-5, rtol=1e-5)
        if exchanged:  # a stream goes on elsewhere
            state, expected_state = expected_state, state


@pytest.mark.parametrize("splits", [[23], [1] * 23, [5, 0, 11, 1, 6], [22, 1]])
def test_any_split_equals_offline(codec: Codec, splits: list[int]) -> None:
    stream, _ = streams(codec)
    codes = torch.randint(16, (1, 23), generator=torch.Generator().manual_seed(1))
    state, pieces = stream.initial_state(1), list[Tensor]()
    for index, piece in enumerate(codes.split(splits, dim=1)):
        waveform, samples, state = stream(
            piece, torch.tensor([piece.shape[1]]), torch.tensor([index == len(splits) - 1]), state
        )
        pieces.append(waveform[:, : int(samples)])
    waveform = codec.decode(codes)
    assert waveform.std() > 0.01
    torch.testing.assert_close(torch.cat(pieces, dim=1), waveform, atol=1e-5, rtol=0)


def test_the_state_given_stays_as_it_was(codec: Codec) -> None:
    stream, _ = streams(codec)
    state = stream.initial_state(1)
    for _ in range(2):
        codes = torch.randint(16, (1, 6))
        before = state.contexts.clone()
        _, _, following = stream(codes, torch.tensor([6]), torch.tensor([False]), state)
        assert torch.equal(state.contexts, before)
        state = following


def test_another_precision_and_another_device_are_left_to_torch() -> None:
    assert few_codes_of(Codec(CONFIGS["voices"]).double().generator, threads=1) is None
    with torch.device("meta"):
        generator = Codec(CONFIGS["voices"]).generator
    assert few_codes_of(generator, threads=1) is None


def test_a_large_codec_is_left_to_many_threads() -> None:
    wide = Codec(CodecConfig(upsample_rates=(8, 5, 5, 6), upsample_kernel_sizes=(16, 11, 11, 12))).generator
    assert few_codes_of(wide, threads=8) is None
    assert few_codes_of(wide, threads=2) is not None


def test_what_is_not_of_the_segment_is_not_computed(codec: Codec) -> None:
    stream, _ = streams(codec)
    generator, made = codec.generator, dict[str, list[int]]()
    assert stream.few_codes is not None
    for name, conv in (("first", generator.conv_pre), ("last", generator.conv_post)):
        stream.few_codes.layers[conv] = Counting(stream.few_codes.layers[conv], made.setdefault(name, []))
    state, heard = stream.initial_state(1), 0
    for last in (False, True):
        _, samples, state = stream(torch.arange(15)[None], torch.tensor([15]), torch.tensor([last]), state)
        assert made["last"][-1] == int(samples)
        heard += int(samples)
    assert sum(made["first"]) == 30
    assert heard == 30 * codec.config.hop_length


class Counting:
    """A layer that tells how many frames it makes."""

    def __init__(self, layer: FrameConv, made: list[int]) -> None:
        self.layer, self.made = layer, made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def __call__(self, buffer: Array, frames: int) -> Array:
        self.made.append(frames)
        return self.layer(buffer, frames)


def test_a_codec_that_moved_is_made_in_torch() -> None:
    codec = Codec(CONFIGS["one voice"]).requires_grad_(False)
    stream = CodecStream(codec)
    codec.double()
    codes = torch.randint(16, (1, 9))
    waveform, _, state = stream(codes, torch.tensor([9]), torch.tensor([False]), stream.initial_state(1))
    assert waveform.dtype == state.contexts.dtype == torch.double
    assert torch.equal(state.fed, torch.tensor([9]))
