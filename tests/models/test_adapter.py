from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from icebreaker.checkpoints.audiollm_keys import adapter_key_table
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.streaming import select

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"
TINY = AdapterConfig(encoder_dim=6, llm_dim=20, kernel_size=5)
FORMS = {
    "one convolution": {},
    "one convolution, batch norm, relu": {"norm": "batch", "activation": "relu", "kernel_size": 3},
    "two convolutions": {"llm_dim": 30},
    "cnn": {"kind": "cnn"},
    "linear": {"kind": "linear"},
    "speaking in tokens": {"vocabulary": 11},
}
OFFICIAL = {
    "cnn": AdapterConfig(kind="cnn", encoder_dim=32, llm_dim=128),
    "linear": AdapterConfig(kind="linear", encoder_dim=32, llm_dim=128),
    "sub1_batch_gelu": AdapterConfig(encoder_dim=32, llm_dim=128, norm="batch"),
    "sub1_batch_relu": AdapterConfig(encoder_dim=32, llm_dim=128, norm="batch", activation="relu"),
    "sub1_layer_relu_k3": AdapterConfig(encoder_dim=32, llm_dim=96, kernel_size=3, activation="relu"),
    "sub2_batch_relu": AdapterConfig(encoder_dim=24, llm_dim=128),
}


def read(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays}


def build(**change: object) -> Adapter:
    torch.manual_seed(31)
    adapter = Adapter(replace(TINY, **change)).eval()
    for module in adapter.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    if adapter.lookup is not None:
        adapter.lookup.follow(torch.randn_like(adapter.lookup.tokens))
    return adapter


def load(config: AdapterConfig, official: dict[str, Tensor]) -> Adapter:
    table = adapter_key_table(config)
    assert table.keys() == official.keys()
    adapter = Adapter(config).eval().requires_grad_(False)
    adapter.load_state_dict({ours: official[theirs] for theirs, ours in table.items() if ours is not None})
    return adapter


@pytest.fixture(scope="module")
def released() -> Adapter:
    official = torch.load(GOLDEN / "checkpoints" / "audiollm" / "final.pt", weights_only=True)
    own = {key.removeprefix("adpter."): value.float() for key, value in official.items() if key.startswith("adpter.")}
    return load(AdapterConfig(encoder_dim=32, llm_dim=128), own)


def test_released_form_matches_official(released: Adapter) -> None:
    frames, expected = read(GOLDEN / "expected" / "encoder.npz"), read(GOLDEN / "expected" / "adapter.npz")
    full, _ = released(frames["full_out"], released.initial_state(1))
    torch.testing.assert_close(full, expected["full_out"], atol=1e-4, rtol=0.0)
    mask = frames["batch_mask"].squeeze(1)
    batch, _ = released(frames["batch_out"], released.initial_state(2), mask)
    real = mask[:, ::2]
    assert torch.equal(real, expected["batch_mask"].squeeze(1))
    torch.testing.assert_close(batch[real], expected["batch_out"][real], atol=1e-4, rtol=0.0)
    state = released.initial_state(1)
    for chunk, output, cache in zip(
        frames["stream_out"], expected["stream_out"], expected["stream_cache"], strict=True
    ):
        streamed, state = released(chunk[None], state)
        torch.testing.assert_close(streamed[0], output, atol=1e-4, rtol=0.0)
        torch.testing.assert_close(state.contexts[0][0], cache)


@pytest.mark.parametrize("name", OFFICIAL)
def test_variants_match_official(name: str) -> None:
    folder = GOLDEN / "variants" / "adapters"
    adapter = load(OFFICIAL[name], torch.load(folder / f"{name}.pt", weights_only=True))
    vectors = read(folder / f"{name}.npz")
    mask = vectors["mask"].squeeze(1)
    out, _ = adapter(vectors["x"], adapter.initial_state(2), mask)
    real = mask[:, :: adapter.stride]
    assert torch.equal(real, vectors["out_mask"].squeeze(1))
    torch.testing.assert_close(out[real], vectors["out"][real], atol=1e-5, rtol=0.0)
    if "stream_out_0" not in vectors:
        return
    state = adapter.initial_state(1)
    for n in range(3):
        streamed, state = adapter(vectors["x"][:1, 4 * n : 4 * n + 4], state)
        torch.testing.assert_close(streamed, vectors[f"stream_out_{n}"], atol=1e-5, rtol=0.0)
        # Official slot 0 belongs to the strided convolution, the last of ours.
        for slot, context in enumerate(reversed(state.contexts)):
            torch.testing.assert_close(context, vectors[f"stream_cache{slot}_{n}"], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("chunk", [2, 4, 10])
@pytest.mark.parametrize("form", FORMS)
def test_streaming_equals_offline(form: str, chunk: int) -> None:
    adapter = build(**FORMS[form])
    frames = torch.randn(3, 20, 6)
    offline, _ = adapter(frames, adapter.initial_state(3))
    assert offline.shape == (3, 20 // adapter.stride, adapter.config.llm_dim)
    state, outputs = adapter.initial_state(3), []
    for piece in frames.split(chunk, dim=1):
        output, state = adapter(piece, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, dim=1), offline)


@pytest.mark.parametrize("form", FORMS)
def test_no_gradient_reaches_the_future(form: str) -> None:
    adapter = build(**FORMS[form])
    frames = torch.randn(1, 20, 6, requires_grad=True)
    out, _ = adapter(frames, adapter.initial_state(1))
    (gradient,) = torch.autograd.grad(out[:, 4].square().sum(), frames)
    last = 4 * adapter.stride
    assert gradient[:, last + 1 :].abs().max() == 0
    assert gradient[:, last].abs().min() > 0


@pytest.mark.parametrize("form", FORMS)
def test_drifting_rows_equal_each_row_alone_and_idle_rows_stay(form: str) -> None:
    adapter = build(**FORMS[form])
    frames = torch.randn(2, 12, 6)
    alone = [adapter(frames[row : row + 1], adapter.initial_state(1))[0][0] for row in range(2)]
    state, heard = adapter.initial_state(2), [0, 0]
    for step in [[True, False], [True, True], [False, True], [True, False]]:
        chunk = torch.stack([frames[row, n : n + 4] for row, n in enumerate(heard)])
        active = torch.tensor(step)
        out, new = adapter(chunk, state)
        state = select(active, new, state)
        for row in active.nonzero().flatten().tolist():
            first = heard[row] // adapter.stride
            torch.testing.assert_close(out[row], alone[row][first : first + 4 // adapter.stride])
            heard[row] = min(heard[row] + 4, 8)
    assert heard == [8, 8]


def test_masked_frames_count_as_silence() -> None:
    adapter = build()
    frames = torch.randn(1, 8, 6)
    mask = torch.tensor([[True] * 5 + [False] * 3])
    masked, _ = adapter(frames, adapter.initial_state(1), mask)
    silent, _ = adapter(frames * mask.unsqueeze(-1), adapter.initial_state(1))
    assert torch.equal(masked, silent)


def test_published_size() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in Adapter(AdapterConfig()).parameters()) == 17_835_520


def test_a_kernel_below_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size of at least 2"):
        AdapterConfig(kernel_size=1)
