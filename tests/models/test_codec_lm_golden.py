"""The speech decoder against the official implementation's stored inputs and outputs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from icebreaker.checkpoints.decoder_keys import decoder_config, decoder_from_official, decoder_keys
from icebreaker.models.codec_lm import CodecLM
from icebreaker.models.codec_lm_loss import cross_entropy, targets

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"


def load(folder: Path, llm_dim: int) -> CodecLM:
    config = decoder_config(json.loads((folder / "model.json").read_text()), llm_dim, "model.json")
    weights = torch.load(folder / "final.pt", weights_only=True)
    model = CodecLM(config).eval()
    model.load_state_dict(decoder_from_official(weights.get("model", weights), config, "final.pt"))
    return model


@pytest.fixture(scope="module")
def model() -> CodecLM:
    return load(GOLDEN / "checkpoints" / "decoder", 128)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / "expected" / "decoder.npz").items()}


def vectors(golden: dict[str, Tensor], name: str) -> Tensor:
    return golden[name].reshape(len(golden[name]), -1, 128)  # four decoder positions are one LLM vector


def greedy(
    model: CodecLM, text: Tensor, prefix: Tensor | None, window: int, penalty: float
) -> tuple[list[int], Tensor]:
    lengths = torch.tensor([text.shape[1]])
    prefix_lengths = None if prefix is None else torch.tensor([prefix.shape[1]])
    state = model.prefill(text, lengths, prefix, prefix_lengths, max_codes=60)
    history, rows = [model.config.sos], []
    for _ in range(60):
        logits, state = model.step(torch.tensor(history[-1:]), state)
        rows.append(logits[0].clone())
        for code in history[-window:] if window > 0 else []:
            logits[0, code] /= penalty
        if (code := int(logits[0].argmax())) == model.config.eos:
            break
        history.append(code)
    return history[1:], torch.stack(rows)


@pytest.mark.parametrize(
    ("name", "with_prefix", "window", "penalty"),
    [("inf", True, -1, 1.1), ("inf_noprefix", False, -1, 1.1), ("inf_penalty", True, 5, 1.6)],
)
def test_greedy_generation(
    model: CodecLM, golden: dict[str, Tensor], name: str, with_prefix: bool, window: int, penalty: float
) -> None:
    prefix = vectors(golden, "inf_prefix") if with_prefix else None
    codes, logits = greedy(model, vectors(golden, "inf_hidden"), prefix, window, penalty)
    assert codes == golden[f"{name}_tokens"].tolist()
    torch.testing.assert_close(logits, golden[f"{name}_logits"], atol=1e-4, rtol=1e-4)


def test_pre_nn_and_prefix_caches(model: CodecLM, golden: dict[str, Tensor]) -> None:
    context, lengths = model.context(vectors(golden, "inf_hidden"), torch.tensor([6]))
    assert lengths.tolist() == [25]
    torch.testing.assert_close(context[:, 1:], golden["inf_pre_nn"], atol=1e-4, rtol=1e-4)
    cache = model.prefix_cache(vectors(golden, "inf_prefix"), torch.tensor([7]))
    torch.testing.assert_close(torch.cat(cache.keys), golden["prefix_keys"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat(cache.values), golden["prefix_values"], atol=1e-4, rtol=1e-4)


def pieces_model(model: CodecLM) -> CodecLM:
    """The same weights behind LLM vectors of one piece: the training vectors have lengths that 4 does not divide."""
    config = type(model.config)(**{**vars(model.config), "llm_dim": 32, "split": 1})
    other = CodecLM(config).eval()
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize("with_prefix", [True, False])
def test_training_forward(model: CodecLM, golden: dict[str, Tensor], with_prefix: bool) -> None:
    whole = pieces_model(model)
    prefix = (golden["x_prefix"], golden["x_prefix_lens"]) if with_prefix else (None, None)
    y, y_lens = golden["y"], golden["y_lens"]
    logits = whole(golden["x"], golden["x_lens"], y, y_lens, *prefix, padded_positions=True).logits
    name = "prefix" if with_prefix else "noprefix"
    expected = targets(y, y_lens, whole.config)
    scored = expected != whole.config.pad  # what stands on padding is of no meaning
    torch.testing.assert_close(logits[scored], golden[f"logits_{name}"][scored], atol=1e-3, rtol=1e-3)
    assert expected.equal(golden["target"])
    loss = cross_entropy(logits, expected, whole.config, "sum")
    torch.testing.assert_close(loss, golden[f"loss_{name}"], rtol=1e-5, atol=0)
    if with_prefix:
        per_sample = cross_entropy(logits, expected, whole.config, "none").sum(dim=1)
        torch.testing.assert_close(per_sample, golden["loss_prefix_per_sample"], rtol=1e-5, atol=0)


def test_our_positions_give_a_batch_the_losses_of_its_singles(model: CodecLM, golden: dict[str, Tensor]) -> None:
    whole = pieces_model(model)
    y, y_lens = golden["y"], golden["y_lens"]
    prefix = (golden["x_prefix"], golden["x_prefix_lens"])
    logits = whole(golden["x"], golden["x_lens"], y, y_lens, *prefix).logits
    losses = cross_entropy(logits, targets(y, y_lens, whole.config), whole.config, "none").sum(dim=1)
    torch.testing.assert_close(losses, golden["loss_prefix_single"], rtol=1e-5, atol=0)


def test_gradient_norms(model: CodecLM, golden: dict[str, Tensor]) -> None:
    whole = pieces_model(model).train()
    y, y_lens = golden["y"], golden["y_lens"]
    prefix = (golden["x_prefix"], golden["x_prefix_lens"])
    logits = whole(golden["x"], golden["x_lens"], y, y_lens, *prefix, padded_positions=True).logits
    cross_entropy(logits, targets(y, y_lens, whole.config), whole.config, "sum").backward()
    parameters = dict(whole.named_parameters())
    places = decoder_keys(whole.config)
    expected = json.loads((GOLDEN / "expected" / "decoder.json").read_text())["grad_norms_with_prefix_all_trainable"]
    assert places.keys() == expected.keys()
    for key, norm in expected.items():
        place = places[key]
        gradient = parameters[place.key].grad
        part = 0.0 if gradient is None else float(gradient.chunk(place.parts)[place.part].norm())
        assert part == pytest.approx(max(norm, 0.0), rel=1e-3, abs=1e-6), key  # -1: no gradient at all


def test_drawn_history_teacher_forced(model: CodecLM, golden: dict[str, Tensor]) -> None:
    topk = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / "expected" / "decoder_topk.npz").items()}
    prefix = (vectors(golden, "inf_prefix"), torch.tensor([7]))
    state = model.prefill(vectors(golden, "inf_hidden"), torch.tensor([6]), *prefix)
    history = torch.cat([torch.tensor([model.config.sos]), topk["tokens"]])
    for step, code in enumerate(history[:-1]):
        logits, state = model.step(code[None], state)
        torch.testing.assert_close(logits[0], topk["raw_logits"][step], atol=1e-4, rtol=1e-4)


def test_published_sizes() -> None:
    model = load(GOLDEN / "official-shape" / "checkpoints" / "decoder", 3584)
    assert sum(p.numel() for p in model.parameters()) == 164_718_980
    path = GOLDEN / "official-shape" / "expected" / "decoder.npz"
    golden = {key: torch.from_numpy(value) for key, value in np.load(path).items()}
    text, prefix = (golden[key].float().reshape(1, -1, 3584) for key in ("hidden", "prefix"))
    context, _ = model.context(text, torch.tensor([8]))
    torch.testing.assert_close(context[0, 1::4], golden["pre_nn"], atol=5e-3, rtol=1e-3)
    state = model.prefill(text, torch.tensor([8]), prefix, torch.tensor([10]), max_codes=60)
    code, codes = torch.tensor([model.config.sos]), []
    for step in range(48):
        logits, state = model.step(code, state)
        if step < 4:
            torch.testing.assert_close(logits[0], golden["logits_first4"][step], atol=5e-3, rtol=1e-3)
        code = logits.argmax(dim=-1)
        codes.append(int(code))
    assert codes == golden["tokens"].tolist()
