"""Streaming equals offline decoding, however the codes arrive and whoever else is in the batch: the torch form, because
these codecs are in double precision. See test_codec_few_codes.py for NumPy's."""

import pytest
import torch
from codec_golden import official_codec
from torch import Tensor

from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.models.codec_stream import CodecStream, CodecStreamState

CONFIGS = {
    "one voice": CodecConfig(
        resblock="2", upsample_rates=(5, 4, 3), upsample_kernel_sizes=(11, 8, 7), upsample_initial_channel=32,
        resblock_kernel_sizes=(3, 5), resblock_dilation_sizes=((1, 2), (1, 3)), frame_dilations=(1, 2),
        codes=16, latent_dim=8, encoder="mel", encoder_channels=12, voice_codes=0, voice=(),
    ),
    "voices": CodecConfig(
        upsample_rates=(8, 5, 3), upsample_kernel_sizes=(16, 11, 5), upsample_initial_channel=32,
        resblock_kernel_sizes=(3, 7), resblock_dilation_sizes=((1, 3), (1, 2)), codes=16, latent_dim=8,
        encoder_channels=16, voice_codes=2, voice_dim=16, voice_hidden=4, voice=(3, 5),
    ),
}  # fmt: skip


@pytest.fixture(params=CONFIGS, scope="module")
def codec(request: pytest.FixtureRequest) -> Codec:
    torch.manual_seed(3)
    codec = Codec(CONFIGS[request.param]).double().requires_grad_(False)
    for parameter in codec.parameters():  # livelier than the initial values: edges would show
        parameter.mul_(2)
    return codec


def push(
    stream: CodecStream, codes: Tensor, state: CodecStreamState, *, last: bool = False
) -> tuple[Tensor, CodecStreamState]:
    """One row."""
    lengths = torch.tensor([codes.shape[1]])
    waveform, samples, state = stream(codes, lengths, torch.tensor([last]), state)
    return waveform[:, : int(samples)], state


@pytest.mark.parametrize("splits", [[23], [1] * 23, [5, 0, 11, 1, 6], [22, 1], [2, 21]])
def test_any_split_equals_offline(codec: Codec, splits: list[int]) -> None:
    stream, codes = CodecStream(codec), torch.randint(16, (1, 23))
    state, pieces = stream.initial_state(1), []
    for index, piece in enumerate(codes.split(splits, dim=1)):
        waveform, state = push(stream, piece, state, last=index == len(splits) - 1)
        pieces.append(waveform)
    torch.testing.assert_close(torch.cat(pieces, dim=1), codec.decode(codes), atol=1e-12, rtol=0)
    assert torch.equal(state.contexts, stream.initial_state(1).contexts)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_short_segments_and_a_late_end(codec: Codec, length: int) -> None:
    stream, codes = CodecStream(codec), torch.randint(16, (1, length))
    first, state = push(stream, codes, stream.initial_state(1))
    rest, state = push(stream, codes[:, :0], state, last=True)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), codec.decode(codes), atol=1e-12, rtol=0)
    nothing, _ = push(stream, codes[:, :0], state, last=True)
    assert nothing.shape == (1, 0)


def test_delay_is_what_is_held_back(codec: Codec) -> None:
    stream, codes = CodecStream(codec), torch.randint(16, (1, 30))
    waveform, _ = push(stream, codes, stream.initial_state(1))
    assert waveform.shape[1] == 30 * codec.config.hop_length - stream.delay_samples
    assert 0 < stream.delay_samples < 14 * codec.config.hop_length
    changed = codes.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 16
    other, _ = push(stream, changed, stream.initial_state(1))
    torch.testing.assert_close(other[:, : -codec.config.hop_length], waveform[:, : -codec.config.hop_length])


def test_drifting_rows_equal_each_row_alone(codec: Codec) -> None:
    """Rows start, pause, end and start again at different times; uncounted codes are noise."""
    stream, random = CodecStream(codec), torch.Generator().manual_seed(5)
    segments = [torch.randint(16, (n,), generator=random) for n in (4, 17, 9, 1, 12, 30)]
    waiting = [segments[0::2], segments[1::2]]
    position, state = [0, 0], stream.initial_state(2)
    made: list[list[Tensor]] = [[], []]
    finished: list[list[Tensor]] = [[], []]
    while any(waiting):
        width = int(torch.randint(1, 7, (1,), generator=random))
        codes = torch.randint(16, (2, width), generator=random)
        lengths, last = torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.bool)
        for row in range(2):
            idle = not waiting[row] or bool(torch.rand(1, generator=random) < 0.3)
            if idle:
                continue
            piece = waiting[row][0][position[row] : position[row] + width]
            codes[row, : len(piece)], lengths[row] = piece, len(piece)
            position[row] += len(piece)
            last[row] = position[row] == len(waiting[row][0])
        before = state
        waveform, samples, state = stream(codes, lengths, last, state)
        for row in range(2):
            made[row].append(waveform[row, : int(samples[row])])
            if lengths[row] == 0 and not last[row]:
                assert samples[row] == 0
                assert torch.equal(state.contexts[row], before.contexts[row])
            if last[row]:
                finished[row].append(torch.cat(made[row]))
                made[row], position[row] = [], 0
                waiting[row] = waiting[row][1:]
    for row in range(2):
        for segment, waveform in zip(segments[row::2], finished[row], strict=True):
            torch.testing.assert_close(waveform, codec.decode(segment[None])[0], atol=1e-12, rtol=0)


def test_float_noise_only_with_the_official_weights() -> None:
    codec = official_codec()
    stream, codes = CodecStream(codec), torch.randint(64, (1, 45), generator=torch.Generator().manual_seed(0))
    state, pieces = stream.initial_state(1), []
    for piece in codes.split(8, dim=1):
        waveform, state = push(stream, piece, state)
        pieces.append(waveform)
    pieces.append(push(stream, codes[:, :0], state, last=True)[0])
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(pieces, dim=1), codec.decode(codes), atol=2e-6, rtol=0)


def test_misuse_is_named(codec: Codec) -> None:
    stream = CodecStream(codec)
    no, two = torch.tensor([False]), torch.zeros(1, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="exceeds the 2 codes"):
        stream(two, torch.tensor([3]), no, stream.initial_state(1))
    with pytest.raises(ValueError, match="as many rows"):
        stream(two, torch.tensor([2]), no, stream.initial_state(2))
