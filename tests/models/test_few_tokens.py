"""A few tokens in NumPy are what torch makes of them: drifting, idle, many and few rows, several positions a row."""

import copy
from typing import TypeVar

import pytest
import torch
from tiny_llm import FAMILIES, tiny_llm
from torch import nn

from icebreaker.models.codec_lm import CodecLM, CodecLMConfig, CodecLMState
from icebreaker.models.codec_lm_few_tokens import few_codes_of
from icebreaker.models.kv_cache import KVCache
from icebreaker.models.llm import LLM
from icebreaker.models.llm_few_tokens import MOST_TOKENS, few_tokens_of
from icebreaker.nn.packed import pack_linears

Module = TypeVar("Module", bound=nn.Module)
SLOTS, CAPACITY = 6, 48
TURNS = [  # first slot, stop, what each row is fed
    (0, 6, [1, 1, 1, 1, 1, 1]),
    (1, 4, [1, 0, 1]),
    (0, 6, [1, 0, 0, 0, 0, 1]),
    (2, 3, [1]),
    (0, 6, [2, 0, 3, 1, 0, 1]),
    (3, 6, [2, 2, 2]),
    (0, 2, [0, 1]),
    (1, 2, [3]),
    (0, 6, [0, 0, 5, 0, 0, 0]),
]


KINDS = ["float32", "float16", "packed"]


def given(module: torch.nn.Module, kind: str) -> None:
    """As if it came in float16, or in bfloat16 and large."""
    if kind != "float32":
        dtype = torch.float16 if kind == "float16" else torch.bfloat16
        for parameter in module.parameters():
            parameter.data = parameter.to(dtype).float()


def packed(module: Module, kind: str) -> Module:
    """As a dialogue would run it: ``module`` itself, or a packed copy."""
    if kind != "packed":
        return module
    copied = copy.deepcopy(module)
    pack_linears(copied, "exact")
    assert not any(isinstance(layer, nn.Linear) for layer in copied.modules())
    return copied


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_the_llm_says_the_same(family: str, kind: str) -> None:
    plain_llm = tiny_llm(family)
    given(plain_llm.model, kind)
    llm = packed(plain_llm, kind)
    steps = few_tokens_of(llm)
    assert steps is not None
    torch.manual_seed(3)
    start, lengths = torch.randn(SLOTS, 7, llm.width), torch.tensor([3, 0, 7, 1, 5, 2])
    (_, plain), (_, cache) = (llm(start, llm.new_cache(SLOTS, CAPACITY), lengths) for _ in range(2))
    for first, stop, fed in TURNS:
        vectors, now = torch.randn(stop - first, max(fed), llm.width), torch.tensor(fed)
        llm.ticks = None
        expected, slots = plain_llm(vectors, plain.slots(first, stop), now)
        plain = plain.with_slots(first, slots)
        llm.ticks = steps
        hidden, slots = llm(vectors, cache.slots(first, stop), now)
        cache = cache.with_slots(first, slots)
        said = torch.arange(max(fed)) < now[:, None]
        torch.testing.assert_close(hidden[said], expected[said], atol=1e-5, rtol=1e-4)
        assert not hidden[~said].any()
        torch.testing.assert_close(steps.logits(expected[:, 0]), plain_llm.logits(expected[:, 0]), atol=1e-5, rtol=1e-4)
    assert cache.length.tolist() == plain.length.tolist()
    for ours, theirs in zip((*cache.keys, *cache.values), (*plain.keys, *plain.values), strict=True):
        for row, length in enumerate(plain.length.tolist()):
            torch.testing.assert_close(ours[row, :, :length], theirs[row, :, :length], atol=1e-5, rtol=1e-4)


def _fed(llm: LLM, cache: KVCache, tokens: int) -> torch.Tensor:
    torch.manual_seed(4)
    return llm(torch.randn(1, tokens, llm.width), cache, torch.tensor([tokens]))[0]


def test_many_tokens_are_left_to_torch() -> None:
    llm = tiny_llm()
    steps = few_tokens_of(llm)
    assert steps is not None
    expected = _fed(llm, llm.new_cache(1, CAPACITY), MOST_TOKENS + 1)
    calls = []
    llm.ticks = lambda *fed: calls.append(steps(*fed)) or calls[-1]
    assert torch.equal(_fed(llm, llm.new_cache(1, CAPACITY), MOST_TOKENS + 1), expected)
    assert calls == [None]


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3", "phi3", "qwen3"])
def test_a_model_of_another_build_is_left_alone(family: str) -> None:
    assert few_tokens_of(tiny_llm(family)) is None


def test_another_precision_is_left_alone() -> None:
    llm = tiny_llm()
    llm.model.to(torch.bfloat16)
    assert few_tokens_of(llm) is None


def decoder(kind: str = "float32") -> tuple[CodecLM, CodecLMState]:
    torch.manual_seed(1)
    config = CodecLMConfig(codes=20, llm_dim=32, hidden=8, linear_units=16, blocks=2, heads=2)
    model = CodecLM(config).eval()
    given(model, kind)
    lengths = torch.tensor([2, 0, 4, 3])
    return model, model.prefill(torch.randn(4, 4, 32), lengths, torch.randn(4, 4, 32), lengths, max_codes=14)


@pytest.mark.parametrize("kind", KINDS)
def test_the_speech_decoder_says_the_same(kind: str) -> None:
    model, plain = decoder(kind)
    _, state = decoder(kind)
    steps = few_codes_of(packed(model, kind))
    assert steps is not None
    for first, stop, active in [(0, 4, [1, 0, 1, 1]), (2, 3, [1]), (0, 1, [1]), (0, 4, [1, 0, 0, 1]), (0, 4, [1] * 4)]:
        codes, now = torch.randint(20, (stop - first,)), torch.tensor(active, dtype=torch.bool)
        logits = []
        for each, ticks in ((plain, None), (state, steps)):
            model.ticks = ticks
            found, after = model.step(codes, CodecLMState(*(t[first:stop] for t in each)), now)
            each.length[first:stop], each.position[first:stop] = after.length, after.position
            logits.append(found)
        torch.testing.assert_close(logits[1][now], logits[0][now], atol=1e-5, rtol=1e-4)
        assert not logits[1][~now].any()
    assert state.length.tolist() == plain.length.tolist()


def test_a_full_row_that_is_idle_is_not_written_to() -> None:
    model, state = decoder()
    model.ticks = few_codes_of(model)
    full = state.length.clone()
    full[0] = state.capacity
    before = state.keys[0].clone()
    _, after = model.step(
        torch.tensor([1, 2, 3, 4]), state._replace(length=full), torch.tensor([False, True, True, True])
    )
    assert torch.equal(after.keys[0], before)
    with pytest.raises(ValueError, match="the cache is full"):
        model.step(torch.tensor([1, 2, 3, 4]), after)


def test_many_states_are_left_to_the_head_itself() -> None:
    steps = few_tokens_of(llm := tiny_llm())
    assert steps is not None
    assert steps.logits(torch.zeros(1, MOST_TOKENS, llm.width)) is not None
    assert steps.logits(torch.zeros(1, MOST_TOKENS + 1, llm.width)) is None


def test_a_model_that_has_moved_on_is_left_alone() -> None:
    llm = tiny_llm()
    llm.ticks = few_tokens_of(llm)
    model, state = decoder()
    model.ticks = few_codes_of(model)
    llm.model.double()
    model.double()
    hidden, _ = llm(torch.zeros(1, 2, llm.width), llm.new_cache(1, 8), torch.tensor([2]))
    logits, _ = model.step(
        torch.ones(4, dtype=torch.long), state._replace(keys=state.keys.double(), values=state.values.double())
    )
    assert hidden.dtype == logits.dtype == torch.float64


def test_a_speech_decoder_in_another_precision_is_left_alone() -> None:
    assert few_codes_of(decoder()[0].half()) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_llm_of_any_build_says_the_same(family: str) -> None:
    plain = tiny_llm(family)
    given(plain.model, "packed")
    llm = packed(plain, "packed")
    ids, lengths = torch.arange(14).reshape(2, 7), torch.tensor([7, 5])
    (found, _), (expected, _) = (each(each.embed(ids), each.new_cache(2, 8), lengths) for each in (llm, plain))
    torch.testing.assert_close(found[1, :5], expected[1, :5], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(llm.logits(found[0]), plain.logits(expected[0]), atol=1e-4, rtol=1e-4)
    assert llm.vocab_size == plain.vocab_size


def test_a_packed_speech_decoder_begins_the_same() -> None:
    plain, _ = decoder("packed")
    model, lengths = packed(plain, "packed"), torch.tensor([4, 2])
    torch.manual_seed(2)
    text, prefix = torch.randn(2, 4, 32), torch.randn(2, 4, 32)
    found, expected = (each.prefill(text, lengths, prefix, lengths, max_codes=3) for each in (model, plain))
    assert torch.equal(found.length, expected.length)
    for row, length in enumerate(expected.length.tolist()):
        for ours, theirs in ((found.keys, expected.keys), (found.values, expected.values)):
            torch.testing.assert_close(ours[row, :, :, :length], theirs[row, :, :, :length], atol=1e-5, rtol=1e-4)
