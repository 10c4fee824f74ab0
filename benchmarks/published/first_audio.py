"""From the decision to take the turn to the first sound: ours and the plain pipeline, same weights, same run."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from benchmarks.published.machine import Machine
from benchmarks.published.ours import Told
from benchmarks.published.parts import served
from benchmarks.published.reference import Reference, copied
from benchmarks.published.shapes import REPLIES
from icebreaker.dialogue.parts import Parts

__all__ = ["Start", "compare", "many"]

WATCHED_S = 2.0  # of sound, over which gaps are looked for


@dataclass(frozen=True)
class Start:
    """How one reply began.

    Attributes:
        first_ms: until the first sound.
        steady_ms: until playback may begin if ``WATCHED_S`` of it are to have no gap.
        first_sound_ms: length of the first packet.
    """

    first_ms: float
    steady_ms: float
    first_sound_ms: float


def judge(packets: Sequence[tuple[float, int]], rate: int) -> Start:
    """From packets (seconds since the decision, samples)."""
    before, steady = 0, 0.0
    for at_s, samples in packets:
        if before / rate >= WATCHED_S:
            break
        steady = max(steady, at_s - before / rate)
        before += samples
    return Start(1e3 * packets[0][0], 1e3 * steady, 1e3 * packets[0][1] / rate)


def ours(told: Told, positions: int, replies: Sequence[Sequence[int]], machine: Machine) -> list[Start]:
    """All rows answer at once; recordings, where there are any, are made before the clock runs."""
    state = told.after(positions, replies)
    if machine.records:
        told.rehearse(state)
    packets: list[list[tuple[float, int]]] = [[] for _ in replies]
    began = machine.now()
    state = told.take_turns(state)
    while any(sum(samples for _, samples in row) < WATCHED_S * told.sample_rate for row in packets):
        sound, state = told.advance(state)
        now = machine.now() - began
        for i, each in sound.items():
            packets[i].append((now, len(each)))
        if all(row.reply is not None and row.reply.done for row in state.rows):
            break
    return [judge(row, told.sample_rate) for row in packets]


@torch.inference_mode()
def plain(reference: Reference, cache: DynamicCache, reply: Sequence[int], rate: int, machine: Machine) -> Start:
    """The same by the plain pipeline, one conversation."""
    packets, samples = list[tuple[float, int]](), 0
    began = machine.now()
    for piece in reference.answer(cache, reply):
        packets.append((machine.now() - began, len(piece)))
        samples += len(piece)
        if samples >= WATCHED_S * rate:
            break
    return judge(packets, rate)


def compare(
    parts: Parts, positions: int, machine: Machine, count: int, in_time: Callable[[], bool]
) -> Iterator[dict[str, object]]:
    """A row for each of the first ``count`` replies, ours and the plain pipeline in turn, then a summary."""
    told, reference = Told(served(parts)), Reference(parts)
    rate, starts = told.sample_rate, list[tuple[Start, Start]]()
    replies = [tuple(parts.llm.tokenizer.encode(text, add_special_tokens=False)) for text in REPLIES]
    cache = filled(parts, positions, told)
    ours(told, positions, replies[:1], machine)  # warm
    plain(reference, copied(cache), replies[0], rate, machine)
    for text, reply in list(zip(REPLIES, replies, strict=True))[:count]:
        if starts and not in_time():
            break
        mine = ours(told, positions, [reply], machine)[0]
        theirs = plain(reference, copied(cache), reply, rate, machine)
        starts.append((mine, theirs))
        yield _row(" ".join(text.split()[:6]) + " …", positions, mine, theirs)
    yield _row("median", positions, *(_median(each) for each in zip(*starts, strict=True)))


def filled(parts: Parts, positions: int, told: Told) -> DynamicCache:
    """The plain pipeline's cache with as many positions as ours has when it answers."""
    ready = int(told.after(positions, [(0,)]).context.length[0])
    cache, weight = DynamicCache(), parts.llm.embedding.weight
    ours = parts.llm.new_cache(1, 1)
    for layer, (key, value) in enumerate(zip(ours.keys, ours.values, strict=True)):
        shapes = ((1, each.shape[1], ready, each.shape[3]) for each in (key, value))
        cache.update(*(weight.new_zeros(shape) for shape in shapes), layer)
    return cache


def many(parts: Parts, positions: int, sessions: int, machine: Machine) -> dict[str, object]:
    """Ours, ``sessions`` turns decided at the same moment: the worst that can happen to an engine of so many slots."""
    told = Told(served(parts))
    tokens = [tuple(parts.llm.tokenizer.encode(text, add_special_tokens=False)) for text in REPLIES]
    replies = [tokens[i % len(tokens)] for i in range(sessions)]
    ours(told, positions, replies, machine)  # warm
    starts = sorted(ours(told, positions, replies, machine), key=lambda start: start.first_ms)
    return {
        "sessions": sessions,
        "context": positions,
        "first_ms_p50": statistics.median(start.first_ms for start in starts),
        "first_ms_p95": starts[min(len(starts) - 1, int(0.95 * len(starts)))].first_ms,
        "steady_ms_worst": max(start.steady_ms for start in starts),
    }


def _median(starts: Sequence[Start]) -> Start:
    names = ("first_ms", "steady_ms", "first_sound_ms")
    return Start(*(statistics.median(getattr(start, name) for start in starts) for name in names))


def _row(reply: str, positions: int, mine: Start, theirs: Start) -> dict[str, object]:
    return {
        "reply": reply,
        "context": positions,
        "ours_ms": mine.first_ms,
        "plain_ms": theirs.first_ms,
        "ratio": mine.first_ms / theirs.first_ms,
        "ours_steady_ms": mine.steady_ms,
        "plain_steady_ms": theirs.steady_ms,
        "ours_first_sound_ms": mine.first_sound_ms,
        "plain_first_sound_ms": theirs.first_sound_ms,
    }
