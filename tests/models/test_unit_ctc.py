import json

import pytest
import torch
from omni_golden import MODEL, OMNI, arrays, facts, omni_parts
from safetensors.torch import load_file

from icebreaker.checkpoints.pt_file import load_exactly
from icebreaker.checkpoints.unit_ctc_keys import unit_ctc_config, unit_ctc_from_official
from icebreaker.models.unit_ctc import UnitCTC, UnitCTCConfig, upsampled
from icebreaker.nn.llama import RopeScaling
from icebreaker.streaming import select

SMALL = UnitCTCConfig(
    llm_dim=6, width=16, layers=2, heads=2, linear_units=20, units=7, upsample=3, rope_scaling=RopeScaling(original=8)
)


@pytest.fixture
def decoder() -> UnitCTC:
    torch.manual_seed(4)
    return UnitCTC(SMALL)


def one(count: int) -> torch.Tensor:
    return torch.tensor([count])


@pytest.mark.parametrize("case", ["a", "b"])
def test_decoder_matches_the_official_one(case: str) -> None:
    decoder, golden = omni_parts().unit_ctc, arrays(f"g5_ctc_{case}")
    states = arrays(f"g4_llm_{case}")["hidden"][None]
    tokens = one(states.shape[1])
    seen: list[torch.Tensor] = []
    hook = decoder.output.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    logits, _ = decoder(states, tokens, decoder.initial_state(1))
    hook.remove()
    torch.testing.assert_close(seen[0][0], golden["decoder_out"], atol=3e-3, rtol=0)
    torch.testing.assert_close(logits[0], golden["logits"], atol=3e-3, rtol=0)
    assert logits[0].argmax(-1).tolist() == golden["argmax"].tolist()
    units, _ = decoder.units(states, tokens, decoder.initial_state(1))
    assert list(units[0]) == golden["units"].tolist()


@pytest.mark.parametrize("case", ["a", "b"])
def test_units_come_with_their_token(case: str) -> None:
    decoder, state, counts = omni_parts().unit_ctc, omni_parts().unit_ctc.initial_state(1, tokens=2), []
    for token in arrays(f"g4_llm_{case}")["hidden"]:
        units, state = decoder.units(token[None, None], one(1), state)
        counts.append(len(units[0]))
    assert counts == arrays(f"g5_ctc_{case}")["units_per_token"].tolist()


def test_text_only_case() -> None:
    golden, llm = facts("g4_textonly"), omni_parts().llm
    ids = torch.tensor([golden["input_ids"] + golden["text_ids"][:-1]])
    with torch.inference_mode():
        hidden, _ = llm(llm.embed(ids), llm.new_cache(1, ids.shape[1]), one(ids.shape[1]))
        states = hidden[:, len(golden["input_ids"]) - 1 :]
        assert llm.logits(states[0]).argmax(-1).tolist() == golden["text_ids"]
        decoder = omni_parts().unit_ctc
        logits, _ = decoder(states, one(states.shape[1]), decoder.initial_state(1))
        units, _ = decoder.units(states, one(states.shape[1]), decoder.initial_state(1))
    assert logits[0].argmax(-1).tolist() == golden["argmax"]
    assert list(units[0]) == golden["units"]


def test_another_generator() -> None:
    described = facts("g9_alt_generator")
    values = json.loads((MODEL / "config.json").read_text())
    values |= {key: described[key] for key in ("ctc_decoder_config", "ctc_upsample_factor", "unit_vocab_size")}
    config = unit_ctc_config(values, "alternative")
    weights = {
        name.removeprefix("speech_generator."): value
        for name, value in load_file(OMNI / "golden" / "g9_alt_generator.safetensors").items()
    }
    decoder, golden = UnitCTC(config), arrays("g9_alt_generator")
    load_exactly(decoder, unit_ctc_from_official(weights, config, "alternative"), "alternative")
    states = golden["hidden"][None]
    logits, _ = decoder(states, one(11), decoder.initial_state(1))
    torch.testing.assert_close(logits[0], golden["logits"], atol=3e-3, rtol=0)
    assert logits[0].argmax(-1).tolist() == golden["argmax"].tolist()
    assert list(decoder.units(states, one(11), decoder.initial_state(1))[0][0]) == golden["units"].tolist()


@pytest.mark.parametrize("chunk", [1, 2, 5, 10])
def test_streaming_equals_offline_and_training(decoder: UnitCTC, chunk: int) -> None:
    states = torch.randn(2, 10, 6)
    state, pieces = decoder.initial_state(2, tokens=1), []  # so small that it has to grow
    for piece in states.split(chunk, dim=1):
        logits, state = decoder(piece, torch.full((2,), chunk), state)
        pieces.append(logits)
    whole, frames = decoder.train_forward(states, torch.full((2,), 10))
    assert frames.tolist() == [30, 30]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole.detach(), atol=1e-5, rtol=1e-5)


def test_rows_that_drift_apart_equal_rows_alone(decoder: UnitCTC) -> None:
    states, given = torch.randn(3, 6, 6), torch.zeros(3, dtype=torch.long)
    state, found = decoder.initial_state(3, tokens=1), [[] for _ in range(3)]
    for lengths in ([2, 0, 1], [1, 3, 0], [0, 1, 3], [3, 2, 2]):
        counts = torch.tensor(lengths)
        piece = torch.stack([torch.cat([row, row])[g : g + 3] for row, g in zip(states, given.tolist(), strict=True)])
        logits, state = decoder(piece, counts, state)
        for row, own, count in zip(found, logits, lengths, strict=True):
            row.append(own[: 3 * count])
        given += counts
    assert given.tolist() == [6, 6, 6]
    for row, parts in zip(states, found, strict=True):
        alone, _ = decoder(row[None], one(6), decoder.initial_state(1))
        torch.testing.assert_close(torch.cat(parts), alone[0], atol=1e-5, rtol=1e-5)


def test_idle_rows_are_untouched(decoder: UnitCTC) -> None:
    _, state = decoder.units(torch.randn(2, 2, 6), torch.tensor([2, 2]), decoder.initial_state(2))
    kept = state.cache.keys[0][1, :, :6].clone(), int(state.collapse.newest[1])
    units, after = decoder.units(torch.randn(2, 1, 6), torch.tensor([1, 0]), state)
    assert units[1] == ()
    assert after.cache.length.tolist() == [9, 6]
    assert torch.equal(after.cache.keys[0][1, :, :6], kept[0])
    assert int(after.collapse.newest[1]) == kept[1]
    back = select(torch.tensor([False, True]), after, state)
    assert back.cache.length.tolist() == [6, 6]


def test_nothing_comes_of_the_future(decoder: UnitCTC) -> None:
    states = torch.randn(1, 5, 6, requires_grad=True)
    logits, _ = decoder.train_forward(states, one(5))
    logits[0, 3 * 2 + 1].sum().backward()  # a frame of the third token
    assert states.grad is not None
    reached = states.grad[0].abs().sum(-1) > 0
    assert reached.tolist() == [True, True, True, False, False]


def test_uneven_upsampling_follows_the_float32_ratio() -> None:
    states = torch.arange(5.0).view(1, 5, 1)
    stretched = upsampled(states, one(5), one(138))
    expected = [int(t / (torch.tensor(138.0) / 5).item()) for t in range(138)]
    assert stretched[0, :, 0].tolist() == [float(i) for i in expected]


def test_frames_past_a_row_are_zero() -> None:
    stretched = upsampled(torch.ones(2, 2, 1), torch.tensor([2, 1]), torch.tensor([4, 2]))
    assert stretched[..., 0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="width a multiple of twice the heads"):
        UnitCTCConfig(llm_dim=4, width=15, heads=5)
