"""Every part by itself: time, the least time the device could take, and how close it comes; naive ways beside some.

The floor is bytes that must be read over the measured bandwidth, or multiplications over the measured peak, whichever
takes longer: weights once, in the precision they are kept in, each row's keys and values once. FLOPs are counted by
torch, on the same work done by torch.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from benchmarks.published.machine import Machine
from benchmarks.published.reference import GrowingDecoder, copied
from benchmarks.published.shapes import Omni
from icebreaker.dialogue.parts import Parts
from icebreaker.models.codec_lm import CodecLM, CodecLMState
from icebreaker.models.codec_lm_few_tokens import few_codes_of
from icebreaker.models.codec_lm_ticks import CodecLMTicks
from icebreaker.models.codec_stream import CodecStream
from icebreaker.models.kv_cache import KVCache
from icebreaker.models.llm import LLM
from icebreaker.models.llm_few_tokens import few_tokens_of
from icebreaker.models.llm_ticks import LLMTicks
from icebreaker.nn.packed import PackedLinear
from icebreaker.talking import pack_large

__all__ = ["RECORDED", "Row", "decode_ticks", "listening", "omni_parts", "served", "speaking"]

Work = Callable[[], object]
Module = TypeVar("Module", bound=nn.Module)
RECORDED = ", recorded"  # as a CUDA graph


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        part: what was done.
        batch: conversations at once.
        context: LLM positions of each; 0 where there is no context.
        ms: least time of all repetitions.
        median_ms: half of them took less.
        floor_ms: the least time the device could take.
        bound: what the floor is, memory or arithmetic.
        naive_ms: the same by the plain pipeline's way.
    """

    part: str
    batch: int
    context: int
    ms: float
    median_ms: float
    floor_ms: float
    bound: str
    naive_ms: float | None = None

    @property
    def share(self) -> float:
        """Of what the device could do at most, reached."""
        return self.floor_ms / self.ms


def weights(*modules: nn.Module) -> int:
    """Bytes of all parameters, each once."""
    found = {id(p): p.numel() * p.element_size() for module in modules for p in module.parameters()}
    packed = {id(m): m for module in modules for m in module.modules() if isinstance(m, PackedLinear)}
    return sum(found.values()) + sum(layer.nbytes for layer in packed.values())


def measured(
    machine: Machine, part: str, work: Work, bytes_read: float, *, batch: int, context: int = 0,
    single: bool = False, naive: Work | None = None, counted: Work | None = None,
) -> Row:  # fmt: skip
    """Time ``work``; ``single``: it computes in float32; ``counted``: the same in torch."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        (counted or work)()
    able = replace(machine, flops=machine.float32_flops) if single else machine
    floor, bound = able.floor_s(bytes_read, counter.get_total_flops())
    with torch.inference_mode():
        timing = machine.time(work)
        other = None if naive is None else 1e3 * machine.time(naive).least
    return Row(part, batch, context, 1e3 * timing.least, 1e3 * timing.median, 1e3 * floor, bound, other)


def recorded(machine: Machine, row: Row, work: Work) -> Row:
    """The same work as ``row``'s, launched as one."""
    with torch.inference_mode():
        timing = machine.time(work)
    return replace(row, part=row.part + RECORDED, ms=1e3 * timing.least, median_ms=1e3 * timing.median, naive_ms=None)


def listening(parts: Parts, machine: Machine, batches: tuple[int, ...]) -> Iterator[Row]:
    """Features, encoder and adapter for 160 ms of each conversation."""
    for batch in batches:
        waveform = torch.randn(batch, 2560, device=machine.device) / 8
        state = parts.fbank.initial_state(batch)
        fbank, _ = parts.fbank(waveform, state)
        yield measured(machine, "features, 160 ms", lambda: parts.fbank(waveform, state), 0, batch=batch, single=True)  # noqa: B023
        encoder = parts.encoder.initial_state(batch)
        _, encoder = parts.encoder(fbank.repeat(1, 17, 1), encoder)  # the cache is full then
        frames, _ = parts.encoder(fbank, encoder)
        kept = sum(t.numel() * t.element_size() for layer in encoder.layers for t in layer if t is not None)
        yield measured(
            machine, "encoder, 160 ms", lambda: parts.encoder(fbank, encoder), weights(parts.encoder) + kept,  # noqa: B023
            batch=batch,
        )  # fmt: skip
        adapter = parts.adapter.initial_state(batch)
        work = lambda: parts.adapter(frames, adapter)  # noqa: B023, E731
        yield measured(machine, "adapter, 160 ms", work, weights(parts.adapter), batch=batch)


def served_llm(llm: LLM) -> LLM:
    """As a dialogue runs it; a packed one is a copy, which shares what is not packed."""
    llm = _packed_copy(llm)
    if (steps := few_tokens_of(llm)) is not None:
        llm.ticks, llm.few_logits = steps, steps.logits
    return llm


def served(parts: Parts) -> Parts:
    """LLM and speech decoder as a dialogue runs them."""
    codec_lm = _packed_copy(parts.codec_lm)
    codec_lm.ticks = few_codes_of(codec_lm)
    return replace(parts, llm=served_llm(parts.llm), codec_lm=codec_lm)


def _packed_copy(module: Module) -> Module:
    copied_one = copy.deepcopy(module, {id(weight): weight for weight in module.parameters()})
    pack_large(copied_one)
    return copied_one if any(isinstance(each, PackedLinear) for each in copied_one.modules()) else module


def decode_ticks(
    plain: LLM, machine: Machine, batches: tuple[int, ...], contexts: tuple[int, ...], fits: Callable[[int], bool]
) -> Iterator[Row]:
    """One token for every conversation: embedding, layers, head; at batch 1 beside a cache that grows and is copied."""
    llm = served_llm(plain)
    for context in contexts:
        for batch in batches:
            if not fits(batch * (context + 64) * llm.cache_bytes_per_position()):
                continue
            cache = llm.new_cache(batch, context + 64)
            cache = cache._replace(length=cache.length + context)
            ids = torch.ones(batch, 1, dtype=torch.long, device=machine.device)
            read = weights(llm.model) - _unread(llm) + batch * context * llm.cache_bytes_per_position()
            naive = _plain_tick(plain, ids, cache, context) if batch == 1 else None
            work = partial(_tick, llm, ids, cache)
            counted = partial(_in_torch, plain, partial(_tick, plain, ids, cache))
            row = measured(
                machine, "LLM, one token", work, read, batch=batch, context=context, naive=naive, counted=counted
            )
            yield row
            if machine.records:
                llm.ticks = LLMTicks(llm, cache)
                yield recorded(machine, row, work)
                llm.ticks = None


def _tick(llm: LLM, ids: Tensor, cache: KVCache) -> Tensor:
    hidden, _ = llm(llm.embed(ids), cache, torch.ones_like(ids[:, 0]))
    return llm.logits(hidden[:, -1])


def _in_torch(llm: LLM, work: Work) -> object:
    """``work`` without the LLM's own steps, of which torch counts nothing."""
    steps, llm.ticks, llm.few_logits = (llm.ticks, llm.few_logits), None, None
    try:
        return work()
    finally:
        llm.ticks, llm.few_logits = steps


def _unread(llm: LLM) -> int:
    """An embedding of its own is looked up, not read."""
    own = llm.embedding.weight is not getattr(llm.model.get_output_embeddings(), "weight", None)
    return llm.embedding.weight.nbytes if own else 0


def _plain_tick(llm: LLM, ids: Tensor, cache: KVCache, context: int) -> Work:
    grown = DynamicCache()
    for layer, (key, value) in enumerate(zip(cache.keys, cache.values, strict=True)):
        grown.update(key[:, :, :context].clone(), value[:, :, :context].clone(), layer)

    def tick() -> Tensor:
        own = copied(grown)
        output = llm.model.base_model(input_ids=ids, past_key_values=own, use_cache=True)
        copied(own)  # the snapshot of the release
        return llm.logits(output.last_hidden_state[:, -1])

    return tick


def prefills(plain: LLM, machine: Machine, lengths: tuple[int, ...]) -> Iterator[Row]:
    """Reading a prompt into an empty conversation."""
    llm = served_llm(plain)
    for length in lengths:
        vectors = torch.zeros(1, length, llm.width, device=machine.device, dtype=llm.embedding.weight.dtype)
        cache, count = llm.new_cache(1, length), torch.tensor([length], device=machine.device)
        work = partial(llm, vectors, cache, count)
        counted = partial(_in_torch, plain, partial(plain, vectors, cache, count))
        layers = weights(llm.model.base_model) - llm.embedding.weight.nbytes
        yield measured(machine, f"LLM, {length} positions at once", work, layers, batch=1, counted=counted)


def speaking(parts: Parts, machine: Machine, batches: tuple[int, ...]) -> Iterator[Row]:
    """The speech decoder's start and its codes, and the codec."""
    plain, width, dtype = parts.codec_lm, parts.llm.width, parts.llm.embedding.weight.dtype
    lm = served(parts).codec_lm
    for batch in batches:
        text, prefix = (torch.randn(batch, n, width, device=machine.device).to(dtype) for n in (6, 6))
        lengths = torch.full((batch,), 6, device=machine.device)
        begin = lambda: lm.prefill(text, lengths, prefix, lengths, max_codes=200)  # noqa: B023, E731
        read = weights(lm.pre_nn, lm.layers) + (weights(lm.prefix_layers) if lm.config.prefix else 0)
        counted = lambda: plain.prefill(text, lengths, prefix, lengths, max_codes=200)  # noqa: B023, E731
        part = "speech decoder, start of a segment of 6 tokens"
        yield measured(machine, part, begin, read, batch=batch, counted=counted)
        state = begin()
        codes = torch.full((batch,), lm.config.sos, device=machine.device)
        kept = batch * int(state.length[0]) * lm.config.hidden * 2 * lm.config.blocks * state.keys.element_size()
        growing = GrowingDecoder(plain, state)
        work = lambda: lm.step(codes, state)  # noqa: B023, E731
        naive = (lambda: growing.step(codes)) if batch == 1 else None  # noqa: B023
        read = weights(lm.layers, lm.head) + kept
        counted = lambda: _one_code(plain, codes, state)  # noqa: B023, E731
        row = measured(machine, "speech decoder, one code", work, read, batch=batch, naive=naive, counted=counted)
        yield row
        if machine.records:
            lm.ticks = CodecLMTicks(lm)
            yield recorded(machine, row, work)
            lm.ticks = None
        yield _codec(parts, machine, batch)


def _one_code(lm: CodecLM, codes: Tensor, state: CodecLMState) -> object:
    """A step of torch's."""
    steps, lm.ticks = lm.ticks, None
    try:
        return lm.step(codes, state)
    finally:
        lm.ticks = steps


def _codec(parts: Parts, machine: Machine, batch: int) -> Row:
    """Eight codes of a steady stream; naively 60 for every 40, so 12 for 8."""
    stream, config = CodecStream(parts.codec), parts.codec.config
    codes = torch.randint(config.codes, (batch, 40), device=machine.device)
    eight, forty = (torch.full((batch,), n, device=machine.device) for n in (8, 40))
    goes_on = torch.zeros(batch, dtype=torch.bool, device=machine.device)
    with torch.inference_mode():
        _, _, state = stream(codes, forty, goes_on, stream.initial_state(batch))
        overlapping = codes[:, torch.arange(60) % 40]
        naive = 1e3 * machine.time(lambda: parts.codec.decode(overlapping)).least * 8 / 40
    in_torch = CodecStream(parts.codec)
    in_torch.few_codes = None
    row = measured(
        machine, "codec, 8 codes (0.2 s)", lambda: stream(codes[:, :8], eight, goes_on, state),
        weights(parts.codec.generator), batch=batch, single=True,
        counted=lambda: in_torch(codes[:, :8], eight, goes_on, state),
    )  # fmt: skip
    return replace(row, naive_ms=naive)


def omni_parts(omni: Omni, machine: Machine, batches: tuple[int, ...]) -> Iterator[Row]:
    """LLaMA-Omni's ears, units and vocoder; units naively: all frames anew at the 40th token."""
    for batch in batches:
        mel = torch.randn(batch, 2 * omni.encoder.config.frames, omni.encoder.config.mels, device=machine.device)
        heard = omni.encoder(mel)
        yield measured(machine, "Whisper encoder, 30 s", lambda: omni.encoder(mel), weights(omni.encoder), batch=batch)  # noqa: B023
        work = lambda: omni.adaptor(heard, omni.adaptor.initial_state(batch))  # noqa: B023, E731
        yield measured(machine, "speech adaptor, 30 s", work, weights(omni.adaptor), batch=batch)
        yield _units(omni, machine, batch)
        frames = torch.randint(omni.vocoder.config.units, (batch, 20), device=machine.device)
        embedded = omni.vocoder.embed(frames, None)[0]
        work = lambda: omni.vocoder.generator(embedded, None)  # noqa: B023, E731
        read = weights(omni.vocoder.generator)
        yield measured(machine, "unit vocoder, 20 frames (0.4 s)", work, read, batch=batch, single=True)


def _units(omni: Omni, machine: Machine, batch: int) -> Row:
    decoder, before = omni.unit_ctc, 39
    width, dtype = decoder.config.llm_dim, decoder.input.weight.dtype
    states = torch.randn(batch, before + 1, width, device=machine.device).to(dtype)
    some, all_, one = (torch.full((batch,), n, device=machine.device) for n in (before, before + 1, 1))
    with torch.inference_mode():
        _, state = decoder(states[:, :before], some, decoder.initial_state(batch, before + 2))
    return measured(
        machine, "unit decoder, the 40th token", lambda: decoder(states[:, before:], one, state), weights(decoder),
        batch=batch, naive=(lambda: decoder.train_forward(states, all_)) if batch == 1 else None,
    )  # fmt: skip
