"""What a conversation costs as it grows old and as others join it: one listening tick, one spoken token, bytes."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.published.machine import Machine
from icebreaker.dialogue.parts import Parts
from icebreaker.engine.engine import EngineConfig

__all__ = ["AGES_MIN", "ages", "crowds", "positions_at"]

AGES_MIN = (0.5, 1, 2, 5, 10, 15, 20, 30)
POSITIONS_PER_S = 8.25  # half the time the user speaks (12.5 vectors a second), half the assistant (4 tokens a second)
CAPACITY = EngineConfig().capacity
PER_CHUNK = 2  # LLM positions of 160 ms of speech


def positions_at(minutes: float) -> int:
    """LLM positions of a conversation that old, if nothing of it is forgotten."""
    return int(60 * minutes * POSITIONS_PER_S)


def ages(parts: Parts, machine: Machine, fits: Callable[[int], bool]) -> Iterator[dict[str, float]]:
    """One conversation, by its age: if nothing is forgotten, and as the engine has it read."""
    limit = min(parts.settings.context_positions or CAPACITY, CAPACITY)
    limited = None
    for minutes in AGES_MIN:
        if fits(positions_at(minutes) * parts.llm.cache_bytes_per_position()):
            costs = _costs(parts, machine, 1, positions_at(minutes))
            if costs["context"] > limit:
                limited = limited or _costs(parts, machine, 1, limit)
            served = limited or costs
            of_served = {"served_context": served["context"], "served_token_ms": served["token_ms"]}
            yield {"minutes": minutes} | costs | of_served


def crowds(
    parts: Parts, machine: Machine, batches: tuple[int, ...], fits: Callable[[int], bool]
) -> Iterator[dict[str, float]]:
    """Conversations of two minutes, all of them in the same tick."""
    for batch in batches:
        if fits(batch * positions_at(2) * parts.llm.cache_bytes_per_position()):
            yield {"sessions": batch} | _costs(parts, machine, batch, positions_at(2))


def _costs(parts: Parts, machine: Machine, batch: int, context: int) -> dict[str, float]:
    llm = parts.llm
    cache = llm.new_cache(batch, context + PER_CHUNK)
    cache = cache._replace(length=cache.length + context)
    waveform = torch.randn(batch, 2560, device=machine.device) / 8
    fbank, encoder, adapter = (part.initial_state(batch) for part in (parts.fbank, parts.encoder, parts.adapter))
    ids = torch.ones(batch, 1, dtype=torch.long, device=machine.device)
    one, two = (torch.full((batch,), n, device=machine.device) for n in (1, PER_CHUNK))

    def listen() -> Tensor:
        features, _ = parts.fbank(waveform, fbank)
        frames, _ = parts.encoder(features, encoder)
        heard, _ = parts.adapter(frames, adapter)
        hidden, _ = llm(heard, cache, two)
        return parts.turn_head(hidden[:, -1])

    def write() -> Tensor:
        hidden, _ = llm(llm.embed(ids), cache, one)
        return llm.logits(hidden[:, -1])

    with torch.inference_mode():
        listening, writing = (1e3 * machine.time(work).least for work in (listen, write))
    return {
        "context": context,
        "listening_ms": listening,
        "listening_ms_each": listening / batch,
        "token_ms": writing,
        "token_ms_each": writing / batch,
        "tokens_per_s": 1e3 * batch / writing,
        "cache_mb_each": context * llm.cache_bytes_per_position() / 1e6,
    }
