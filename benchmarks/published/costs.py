"""What ticks cost: as measured on a machine by ``benchmarks.published``, or the least that a device could need.

A floor is no measurement: bytes over the data sheet's bandwidth or multiplications over its peak, launching, Python and
everything that is not weights, keys and values left out.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.published.simulation import Costs

__all__ = ["DEVICES", "PUBLISHED_7B", "Device", "Sizes", "floors", "measured"]

PARTS = {  # of a run's JSON, by the fields of ``Costs``
    "hear": ("features, 160 ms", "encoder, 160 ms", "adapter, 160 ms"),
    "begin": ("speech decoder, start of a segment of 6 tokens",),
    "code": ("speech decoder, one code",),
    "render": ("codec, 8 codes (0.2 s)",),
}
SERVED = {  # what a server runs instead, where it was measured
    "encoder, 160 ms": "encoder packed, 160 ms",
    "speech decoder, one code": "speech decoder, one code, recorded",
    "LLM, one token": "LLM, one token, recorded",
}


@dataclass(frozen=True)
class Device:
    """A data sheet: bytes a second, dense bfloat16 operations a second, bytes."""

    bandwidth: float
    flops: float
    memory: float


DEVICES = {
    "H200": Device(4.8e12, 989e12, 141e9),
    "H100 SXM": Device(3.35e12, 989e12, 80e9),
    "L40S": Device(0.864e12, 362e12, 48e9),
}


@dataclass(frozen=True)
class Sizes:
    """What a model reads and multiplies; weights in bytes of bfloat16 (codec: float32), FLOPs for one conversation."""

    llm_read: float  # layers and head
    llm_held: float  # embedding, too
    cache_per_position: float
    positions: float  # of an average conversation, all of which a tick reads
    encoder: float
    adapter: float
    begin: float
    decoder: float
    codec: float
    codec_flops_per_code: float

    @property
    def weights(self) -> float:
        """Bytes of everything that has to be on the device."""
        return self.llm_held + self.encoder + self.adapter + self.begin + self.codec


PUBLISHED_7B = Sizes(
    llm_read=2 * 7.07e9, llm_held=2 * 7.616e9, cache_per_position=2 * 2 * 28 * 4 * 128, positions=1024,
    encoder=2 * 358e6, adapter=2 * 17.8e6, begin=2 * 164.7e6, decoder=2 * 66.1e6, codec=4 * 15.4e6,
    codec_flops_per_code=726e6,
)  # fmt: skip


def floors(device: Device, sizes: Sizes, share: float = 1.0) -> Costs:
    """The least times on ``device``; ``share``: of its speed that is reached."""

    def call(weights: float, rows: int, bytes_each: float = 0.0) -> Callable[[int], float]:
        """A call that multiplies every weight (2 bytes) by ``rows`` vectors of each conversation."""
        return lambda batch: (
            max((weights + batch * bytes_each) / device.bandwidth, batch * rows * weights / device.flops) / share
        )

    kept = sizes.cache_per_position * sizes.positions

    def hear(batch: int) -> float:
        return call(sizes.encoder, 4)(batch) + call(sizes.adapter, 2)(batch)

    def render(batch: int) -> float:  # the codec computes in float32: half the tensor cores' bfloat16 rate with TF32
        flops = 8 * batch * sizes.codec_flops_per_code
        return max(sizes.codec / device.bandwidth, flops / (device.flops / 2)) / share

    return Costs(
        hear=hear, think=call(sizes.llm_read, 1, kept), begin=call(sizes.begin, 24), code=call(sizes.decoder, 1),
        render=render,
    )  # fmt: skip


def measured(run: Mapping[str, Any], context: int) -> Costs:
    """From a run's JSON; between measured batches on a straight line, beyond the largest as the line goes on."""
    rows = run["parts"]

    def served(part: str) -> str:
        return SERVED[part] if SERVED.get(part) in {row["part"] for row in rows} else part

    def of(part: str) -> list[tuple[int, float]]:
        name = served(part)
        points = sorted((row["batch"], row["ms"] / 1e3) for row in rows if row["part"] == name)
        if not points:
            raise SystemExit(f"the run lacks {part!r}: run --tables parts too")
        return points

    def summed(parts: Sequence[str]) -> Callable[[int], float]:
        lines = [of(part) for part in parts]
        return lambda batch: sum(between(points, batch) for points in lines)

    ticks = [row for row in rows if row["part"] == served("LLM, one token")]
    if not ticks:
        raise SystemExit("the run lacks 'LLM, one token': run --tables llm too")
    nearest = min((row["context"] for row in ticks), key=lambda each: abs(each - context))
    line = sorted((row["batch"], row["ms"] / 1e3) for row in ticks if row["context"] == nearest)
    return Costs(think=lambda batch: between(line, batch), **{name: summed(parts) for name, parts in PARTS.items()})


def between(points: Sequence[tuple[int, float]], x: int) -> float:
    """On the broken line through ``points``, which goes on straight behind its last."""
    if len(points) == 1:
        return points[0][1] * x / points[0][0]
    i = min(max(bisect_left(points, (x, 0.0)), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    return max(y0 + (y1 - y0) * (x - x0) / (x1 - x0), points[0][1])
