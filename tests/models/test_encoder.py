from dataclasses import replace

import pytest
import torch
from torch import Tensor

from icebreaker.config import from_mapping, to_mapping
from icebreaker.models.encoder import Encoder, EncoderConfig, EncoderState
from icebreaker.nn.masks import chunk_mask, draw_chunks
from icebreaker.nn.packed import pack_linears
from icebreaker.streaming import select

TINY = EncoderConfig(
    mel_bins=20, subsampling_dim=6, width=16, heads=2, feed_forward_dim=24, layers=2, chunk_size=2, left_chunks=3
)
STEP = 4 * TINY.chunk_size  # feature frames in a chunk
VARIANTS = {
    "released": {},
    "no left context": {"left_chunks": 0},
    "abs-enc": {"position_encoding": "abs-enc"},
    "post-norm, concat": {"normalize_before": False, "concat_after": True},
    "no input layer": {"input_layer": "none", "subsampling_dim": 16},
}


def build(config: EncoderConfig = TINY) -> Encoder:
    torch.manual_seed(483)
    encoder = Encoder(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
        encoder.mean.normal_()
        encoder.istd.uniform_(0.5, 1.5)
    return encoder


def stream(encoder: Encoder, fbank: Tensor, chunks: list[int], state: EncoderState | None = None) -> Tensor:
    state = encoder.initial_state(fbank.shape[0]) if state is None else state
    outputs = []
    for piece in fbank.split([STEP * count for count in chunks], dim=1):
        output, state = encoder(piece, state)
        outputs.append(output)
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("chunks", [[1] * 12, [2, 1, 4, 5], [12]])
@pytest.mark.parametrize("name", VARIANTS)
def test_streaming_equals_offline(name: str, chunks: list[int]) -> None:
    encoder = build(replace(TINY, **VARIANTS[name]))
    fbank = torch.randn(3, 12 * STEP, 20)
    offline, lengths = encoder.encode(fbank, torch.full((3,), 12 * STEP))
    assert lengths.tolist() == [24, 24, 24]
    torch.testing.assert_close(stream(encoder, fbank, chunks), offline, atol=1e-5, rtol=0.0)


def test_streaming_equals_offline_past_the_official_table() -> None:
    encoder = build(replace(TINY, layers=1))
    fbank = torch.randn(1, 2600 * STEP, 20)  # 5200 frames; the official table has 5000 rows
    with torch.no_grad():
        streamed = stream(encoder, fbank, [100] * 26)
        first = 2500 * STEP
        state = encoder.initial_state(1)
        for piece in fbank[:, :first].split(500 * STEP, dim=1):
            _, state = encoder(piece, state)
        late = stream(encoder, fbank[:, first:], [1] * 100, state)
        offline, _ = encoder.encode(fbank, torch.tensor([fbank.shape[1]]))
    torch.testing.assert_close(streamed, offline, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(late, offline[:, 5000:], atol=1e-5, rtol=0.0)


def test_a_padded_row_equals_the_row_alone() -> None:
    encoder = build()
    fbank = torch.randn(2, 6 * STEP, 20)
    together, lengths = encoder.encode(fbank, torch.tensor([6 * STEP, 27]))
    alone, _ = encoder.encode(fbank[1:, :27], torch.tensor([27]))
    assert lengths.tolist() == [12, 6]
    torch.testing.assert_close(together[1, :6], alone[0])
    assert together[1, 6:].abs().max() == 0


@pytest.mark.parametrize("name", ["released", "abs-enc", "post-norm, concat"])
def test_no_gradient_reaches_future_or_forgotten_chunks(name: str) -> None:
    encoder = build(replace(TINY, layers=1, **VARIANTS[name]))
    fbank = torch.randn(1, 8 * STEP, 20, requires_grad=True)
    offline, _ = encoder.encode(fbank, torch.tensor([8 * STEP]))
    streamed = stream(encoder, fbank, [1] * 8)
    for out in (offline, streamed):
        (gradient,) = torch.autograd.grad(out[:, 10:12].square().sum(), fbank)  # chunk 5
        per_frame = gradient.abs().sum(-1)[0]
        assert per_frame[6 * STEP :].max() == 0
        assert per_frame[: 2 * STEP - 3].max() == 0  # left_chunks 3, and 3 feature frames of context
        assert per_frame[2 * STEP : 6 * STEP].min() > 0


DRIFTING = {**VARIANTS, "official": {"positions": "official"}}


@pytest.mark.parametrize("name", DRIFTING)
def test_drifting_rows_equal_each_row_alone_and_idle_rows_stay(name: str) -> None:
    encoder = build(replace(TINY, **DRIFTING[name]))
    fbank = torch.randn(3, 9 * STEP, 20)
    alone = [stream(encoder, fbank[row : row + 1], [1] * 9)[0] for row in range(3)]
    state, heard = encoder.initial_state(3), [0, 0, 0]
    plan = [[True, False, True], [True, True, True], [False, True, False], *[[True, True, False]] * 6]
    for step in plan:
        chunk = torch.stack([fbank[row, STEP * n : STEP * (n + 1)] for row, n in enumerate(heard)])
        active = torch.tensor(step)
        out, new = encoder(chunk, state)
        state = select(active, new, state)
        for row in active.nonzero().flatten().tolist():
            n = heard[row]
            torch.testing.assert_close(out[row], alone[row][2 * n : 2 * n + 2], atol=1e-5, rtol=0.0)
            heard[row] += 1
    assert heard == [8, 8, 2]
    assert state.position.tolist() == [16, 16, 4]
    full = 2 * encoder.config.left_chunks
    assert state.cached.tolist() == [full, full, min(full, 4)]


def test_official_positions_equal_absolute_ones_until_the_cache_has_been_full_for_a_chunk() -> None:
    absolute, official = build(), build(replace(TINY, positions="official"))
    fbank = torch.randn(1, 8 * STEP, 20)
    ours, theirs = stream(absolute, fbank, [1] * 8), stream(official, fbank, [1] * 8)
    same = 2 * (TINY.left_chunks + 1)
    torch.testing.assert_close(ours[:, :same], theirs[:, :same], atol=1e-5, rtol=0.0)
    assert (ours - theirs)[:, same:].abs().amax(-1).min() > 1e-3


def test_state_goes_in_and_comes_out_unchanged() -> None:
    encoder = build()
    before = encoder.initial_state(2)
    _, middle = encoder(torch.randn(2, STEP, 20), before)
    kept = [layer.keys.clone() for layer in middle.layers]
    encoder(torch.randn(2, STEP, 20), middle)
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(middle.layers, kept, strict=True))
    assert before.cached.tolist() == [0, 0]


def test_chunk_size_zero_gives_the_full_context() -> None:
    encoder = build(replace(TINY, layers=1))
    fbank = torch.randn(1, 64, 20, requires_grad=True)
    full, _ = encoder.encode(fbank, torch.tensor([64]), chunk_size=0)
    (gradient,) = torch.autograd.grad(full[:, :1].square().sum(), fbank)
    assert gradient.abs().sum(-1).min() > 0
    wide, _ = encoder.encode(fbank, torch.tensor([64]), chunk_size=16, left_chunks=-1)
    torch.testing.assert_close(full, wide)


def test_dynamic_chunks_are_drawn_in_training_only() -> None:
    encoder = build(replace(TINY, dynamic_chunks=True, dropout=0.0, positional_dropout=0.0))
    fbank, lengths = torch.randn(1, 200, 20), torch.tensor([200])
    fixed, _ = encoder.encode(fbank, lengths)
    encoder.train()
    with pytest.raises(ValueError, match=r"torch\.Generator"):
        encoder.encode(fbank, lengths)
    draws = [
        encoder.encode(fbank, lengths, generator=torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2, 3, 4)
    ]
    assert torch.equal(draws[0], draws[1])
    assert len({round(float(draw.detach().double().square().sum()), 3) for draw in draws}) > 2
    chosen, _ = encoder.encode(fbank, lengths, chunk_size=2, left_chunks=3)
    torch.testing.assert_close(chosen, fixed)


def test_drawn_chunks_follow_the_official_distribution() -> None:
    generator = torch.Generator().manual_seed(7)
    draws = [draw_chunks(100, generator) for _ in range(2000)]
    full = sum(size == 0 for size, _ in draws)
    sizes = {size for size, _ in draws if size}
    assert abs(full / 2000 - 49 / 99) < 0.04
    assert sizes == set(range(1, 26))
    assert all(0 <= left < 99 // size for size, left in draws if size)
    assert draw_chunks(1, generator) == (0, -1)


def test_chunk_mask_of_two_frames_and_one_left_chunk() -> None:
    frames = torch.arange(5)
    assert chunk_mask(frames, frames, 2, 1).int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]


def test_training_reaches_every_parameter() -> None:
    encoder = build().train()
    out, _ = encoder.encode(torch.randn(2, 64, 20), torch.tensor([64, 0]))  # an empty row sees nothing at all
    out.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    quiet = [name for name, gradient in gradients.items() if gradient is not None and gradient.abs().max() == 0]
    assert set(quiet) <= {f"layers.{i}.attention.key.bias" for i in range(2)}  # softmax cancels it


@pytest.mark.parametrize(
    ("change", "frames", "message"),
    [
        ({}, 12, "multiple of 8 feature frames, got 12; pad the end"),
        ({}, 0, "multiple of 8"),
        ({"chunk_size": -1}, 8, "streaming needs chunk_size > 0"),
        ({"feed_forward": "conv1d"}, 8, "does not stream"),
        ({"positions": "official", "position_encoding": "abs-enc"}, 8, "no official streaming"),
    ],
)
def test_what_cannot_stream_says_so(change: dict[str, object], frames: int, message: str) -> None:
    encoder = build(replace(TINY, **change))
    with pytest.raises(ValueError, match=message):
        encoder(torch.randn(1, frames, 20), encoder.initial_state(1))


def test_a_recording_without_a_whole_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 feature frames, got 3; pad the end"):
        build().encode(torch.randn(1, 3, 20), torch.tensor([3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "divisible by heads"),
        ({"input_layer": "embed"}, "integer ids"),
        ({"input_layer": "none"}, "needs"),
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_config_survives_a_round_trip() -> None:
    assert from_mapping(EncoderConfig, to_mapping(TINY), "test") == TINY


@pytest.mark.parametrize(("positions", "keep"), [("absolute", ()), ("official", ("position",))])
def test_packed_weights_hear_the_same(positions: str, keep: tuple[str, ...]) -> None:
    encoder = build(replace(TINY, positions=positions)).requires_grad_(False)
    fbank = torch.randn(2, 6 * STEP, 20)
    expected = stream(encoder, fbank, [1] * 6)
    pack_linears(encoder, "float32", keep)
    torch.testing.assert_close(stream(encoder, fbank, [1] * 6), expected, atol=1e-5, rtol=0.0)
