"""Recorded ticks do what the plain ones do: drifting rows, idle rows, slices of the batch, longer caches.

Graphs need a GPU; the stand-in runs the step that would be recorded, on buffers of its own.
"""

from collections.abc import Callable

import pytest
import torch
from tiny_llm import tiny_llm
from torch import Tensor

from icebreaker.models.codec_lm import CodecLM, CodecLMConfig, CodecLMState
from icebreaker.models.codec_lm_ticks import CodecLMTicks
from icebreaker.models.kv_cache import KVCache
from icebreaker.models.llm_ticks import LLMTicks
from icebreaker.nn.recorded import Recorder, Recording

SLOTS, CAPACITY = 5, 40
gpu = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="records CUDA graphs: needs a GPU and a torch build for it (pip install torch)",
)


def stand_in(step: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Recording:
    output = torch.empty_like(step(*inputs))

    def replay() -> None:
        output.copy_(step(*inputs))

    return Recording(inputs, output, replay)


def copy_of(cache: KVCache) -> KVCache:
    return KVCache(tuple(k.clone() for k in cache.keys), tuple(v.clone() for v in cache.values), cache.length.clone())


@pytest.mark.parametrize("family", ["qwen2", "llama", "mistral", "gemma3"])
def test_the_llm_ticks_as_it_steps(family: str) -> None:
    llm = tiny_llm(family)
    cache = llm.new_cache(SLOTS, CAPACITY)
    lengths = torch.tensor([3, 0, 7, 1, 5])
    _, cache = llm(torch.randn(SLOTS, 7, llm.width), cache, lengths)
    plain = copy_of(cache)
    ticks = LLMTicks(llm, cache, Recorder(stand_in))
    turns = [(0, 5, [1, 1, 1, 1, 1]), (1, 4, [1, 0, 1]), (2, 3, [1]), (0, 5, [0, 1, 0, 1, 1]), (0, 2, [1, 0])]
    for first, stop, active in turns:
        vectors, now = torch.randn(stop - first, 1, llm.width), torch.tensor(active)
        llm.ticks = None
        expected, slots = llm(vectors, plain.slots(first, stop), now)
        plain = plain.with_slots(first, slots)
        llm.ticks = ticks
        hidden, slots = llm(vectors, cache.slots(first, stop), now)
        cache = cache.with_slots(first, slots)
        torch.testing.assert_close(hidden[now > 0], expected[now > 0], atol=1e-5, rtol=1e-4)
    assert cache.length.tolist() == plain.length.tolist()
    for ours, theirs in zip((*cache.keys, *cache.values), (*plain.keys, *plain.values), strict=True):
        for row, length in enumerate(plain.length.tolist()):
            torch.testing.assert_close(ours[row, :, :length], theirs[row, :, :length], atol=1e-5, rtol=1e-4)
    assert 0 < len(ticks.recorder) <= 4  # few shapes


def test_a_full_idle_row_keeps_its_newest_position() -> None:
    llm = tiny_llm()
    cache = llm.new_cache(2, 8)
    _, cache = llm(torch.randn(2, 8, llm.width), cache, torch.tensor([8, 3]))
    before = copy_of(cache)
    llm.ticks = LLMTicks(llm, cache, Recorder(stand_in))
    _, after = llm(torch.randn(2, 1, llm.width), cache, torch.tensor([0, 1]))
    assert after.length.tolist() == [8, 4]
    assert all(torch.equal(k[0], b[0]) for k, b in zip(after.keys, before.keys, strict=True))


def test_another_cache_is_stepped_plainly() -> None:
    llm = tiny_llm()
    ticks = LLMTicks(llm, llm.new_cache(2, 16), Recorder(stand_in))
    other, vectors, one = llm.new_cache(1, 16), torch.randn(1, 1, llm.width), torch.tensor([1])
    expected, _ = llm(vectors, other, one)
    llm.ticks = ticks
    hidden, _ = llm(vectors, llm.new_cache(1, 16), one)
    assert torch.equal(hidden, expected)
    assert len(ticks.recorder) == 0


def decoder() -> tuple[CodecLM, CodecLMState]:
    torch.manual_seed(1)
    config = CodecLMConfig(codes=20, llm_dim=32, hidden=8, linear_units=16, blocks=2, heads=2)
    model = CodecLM(config).eval()
    lengths = torch.tensor([2, 0, 4])
    return model, model.prefill(torch.randn(3, 4, 32), lengths, torch.randn(3, 4, 32), lengths, max_codes=12)


def test_the_speech_decoder_ticks_as_it_steps() -> None:
    model, plain = decoder()
    _, state = decoder()
    ticks = CodecLMTicks(model, Recorder(stand_in))
    for first, stop, active in [(0, 3, [1, 0, 1]), (2, 3, [1]), (0, 1, [1]), (0, 3, [1, 0, 1])]:
        codes, now = torch.randint(20, (stop - first,)), torch.tensor(active, dtype=torch.bool)
        logits = []
        for each, recorded in ((plain, None), (state, ticks)):
            model.ticks = recorded
            found, after = model.step(codes, CodecLMState(*(t[first:stop] for t in each)), now)
            each.length[first:stop], each.position[first:stop] = after.length, after.position
            logits.append(found[now])
        torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-4)
    assert state.length.tolist() == plain.length.tolist()


def test_a_larger_cache_elsewhere_is_recorded_anew() -> None:
    model, state = decoder()
    model.ticks = ticks = CodecLMTicks(model, Recorder(stand_in))
    codes = torch.tensor([1, 2, 3])
    model.step(codes, state)
    moved = state._replace(keys=state.keys.clone(), values=state.values.clone())
    expected, _ = model.step(codes, moved)
    model.ticks = None
    plain, _ = model.step(codes, state)
    torch.testing.assert_close(expected, plain, atol=1e-5, rtol=1e-4)
    assert len(ticks.recorder) == 1


@gpu
def test_on_a_gpu_recorded_ticks_equal_plain_ones() -> None:
    llm = tiny_llm().cuda()
    cache, plain = (llm.new_cache(SLOTS, 600) for _ in range(2))
    ticks, one = LLMTicks(llm, cache), torch.ones(SLOTS, dtype=torch.long, device="cuda")
    for _ in range(5):
        vectors = torch.randn(SLOTS, 1, llm.width, device="cuda")
        llm.ticks = None
        expected, plain = llm(vectors, plain, one)
        llm.ticks = ticks
        hidden, cache = llm(vectors, cache, one)
        torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-3)
    assert len(ticks.recorder) == 1
    assert not ticks.recorder.failed
