"""How many callers one device bears, and what 10, 1,000 and 1,000,000 of them need: by simulation.

    python -m benchmarks.published.capacity                       # floors of GPUs, from their data sheets
    python -m benchmarks.published.capacity --run bench-gpu.json  # ticks measured by ``python -m benchmarks.published``

A caller is in a conversation all the time: four seconds of question, six of answer, one of rest, on average. A device
bears as many as get their first sound within 350 ms (p95), with a gap in one reply of a hundred at most, while
listening keeps up.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

from benchmarks.published.costs import DEVICES, PUBLISHED_7B, Device, Sizes, floors, measured
from benchmarks.published.report import table
from benchmarks.published.simulation import Costs, Habits, Outcome, simulate

__all__ = ["bearable", "fleet"]

FLEETS = (10, 1_000, 1_000_000)
MOST = 4096  # callers that are tried on one device
SLOT_POSITIONS = 2048  # the engine's default capacity, which a slot holds whether used or not
FRAME_BYTES = {  # a second of one conversation, up and down, payload and framing
    "WebSocket, PCM16 in base64": 4 / 3 * (2 * 24_000 + 2 * 24_000) + 100 * 120,
    "WebSocket, G.711 in base64": 4 / 3 * (8_000 + 8_000) + 100 * 120,
    "WebRTC, Opus": 2 * (32_000 / 8 + 50 * 60),
}


def bearable(costs: Costs, habits: Habits, seconds: float, most: int = MOST) -> tuple[int, Outcome | None]:
    """The largest number of callers that is served as promised, and how they fared; 0: not even one."""
    good, bad, best = 0, most + 1, None
    tried = 1
    while bad - good > max(1, good // 16):
        outcome = simulate(tried, costs, habits, seconds)
        if outcome.good:
            good, best = tried, outcome
        else:
            bad = tried
        tried = min(2 * good, most) if bad > most else (good + bad) // 2
        if good == most:
            break
    return good, best


def memory_bears(device: Device, sizes: Sizes) -> int:
    """Conversations whose slots fit beside the weights; a tenth is left for what is computed."""
    slot = SLOT_POSITIONS * sizes.cache_per_position + 60e6  # and the decoder's own cache, encoder and codec state
    return int((0.9 * device.memory - sizes.weights) / slot)


def fleet(callers: int, each: int) -> int:
    """Devices for so many callers, a tenth more so that one may be down and others be drained."""
    return math.ceil(callers / each * (1.1 if callers > each else 1.0))


def rows_of_floors(habits: Habits, seconds: float) -> Iterator[tuple[object, ...]]:
    """A row for each device and share of its speed that is reached."""
    for name, device in DEVICES.items():
        for share in (1.0, 0.5, 0.25):
            room = memory_bears(device, PUBLISHED_7B)
            number, outcome = bearable(floors(device, PUBLISHED_7B, share), habits, seconds, room)
            yield _row(f"{name}, {share:.0%} of its floor's speed", number, room, outcome)


def _row(name: str, number: int, room: int | None, outcome: Outcome | None) -> tuple[object, ...]:
    bound = "memory" if number == room else "time"
    fleets = (fleet(callers, number) if number else None for callers in FLEETS)
    p50, p95, busy = (None, None, None) if outcome is None else (outcome.p(0.5), outcome.p(0.95), outcome.busy)
    return name, number, bound, p50, p95, busy, *fleets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="JSON of a measured run; none: floors")
    parser.add_argument("--context", type=int, default=1024, help="LLM positions of an average conversation")
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated")
    parser.add_argument("--callers", type=int, help="simulate just so many, and print how they fare")
    parser.add_argument("--first-tokens", type=int, default=5, help="until a reply's first segment is complete")
    options = parser.parse_args()
    habits = Habits(first_tokens=options.first_tokens)
    names = ("device", "callers", "bound by", "p50, ms", "p95, ms", "busy")
    names = (*names, *(f"devices for {callers:,}" for callers in FLEETS))
    if options.run is None:
        print("Floors from data sheets, not measurements.\n")
        print(table(names, list(rows_of_floors(habits, options.seconds))))
    else:
        run = json.loads(options.run.read_text())
        costs = measured(run, options.context)
        if options.callers:
            outcome = simulate(options.callers, costs, habits, options.seconds)
            print(f"{options.callers} callers: first audio p50 {outcome.p(0.5):.0f} ms, p95 {outcome.p(0.95):.0f} ms, ")
            print(f"{outcome.gaps} gaps in {outcome.replies} replies, busy {outcome.busy:.2f}")
            return
        where = run["where"]["gpu"] or run["where"]["machine"]
        print(f"Measured on {where}, {run['date']}, commit {run['where']['commit']}.\n")
        print(table(names, [_row(where, *_found(costs, habits, options.seconds))]))
    print()
    rates = [
        (how, each / 1e3 * 8 / 1e3, *(callers * each * 8 / 1e9 for callers in FLEETS))
        for how, each in FRAME_BYTES.items()
    ]
    print(table(("transport", "Mbit/s each", *(f"Gbit/s for {callers:,}" for callers in FLEETS)), rates))


def _found(costs: Costs, habits: Habits, seconds: float) -> tuple[int, None, Outcome | None]:
    number, outcome = bearable(costs, habits, seconds)
    return number, None, outcome


if __name__ == "__main__":
    main()
