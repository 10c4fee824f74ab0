"""Tables and plots of one run. Knows nothing of how the figures came about."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["markdown"]

Run = Mapping[str, Any]
PLOT_WIDTH, PLOT_HEIGHT = 60, 10  # characters


def markdown(run: Run) -> str:
    """The whole report of ``run``, as ``__main__`` gathers it."""
    pieces = [_head(run), _first_audio(run), _many(run), _parts(run), _throughput(run), _sessions(run)]
    if run["left_out"]:
        pieces.append("Left out: " + "; ".join(run["left_out"]) + ".")
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers to the right."""
    head = "| " + " | ".join(names) + " |"
    marks = "| " + " | ".join("---" if isinstance(cell, str) else "---:" for cell in rows[0]) + " |"
    return "\n".join([head, marks, *("| " + " | ".join(map(number, row)) + " |" for row in rows)])


def number(value: object) -> str:
    """Three digits that mean something."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _head(run: Run) -> str:
    where, machine = run["where"], run["machine"]
    return (
        f"### {run['shape']}\n\n"
        f"{run['date']}, commit {where['commit']}, {where['gpu'] or where['machine']}, torch {where['torch']}, "
        f"{where['threads']} thread(s), {machine['dtype']}; reads {machine['gb_per_s']:.0f} GB/s, multiplies "
        f"{machine['tflops']:.3g} TFLOP/s ({machine['float32_tflops']:.3g} in float32), as measured in this run. "
        f"{machine['clock']} The run took {run['seconds']:.0f} s. {run['weights']} weights: `{run['command']}`."
    )


def _first_audio(run: Run) -> str:
    rows = run["first_audio"]
    if not rows:
        return ""
    names = ("reply", "context", "ours, ms", "plain, ms", "ratio", "ours, no gap", "plain, no gap", "first packets, ms")
    cells = [
        (
            r["reply"], r["context"], r["ours_ms"], r["plain_ms"], r["ratio"], r["ours_steady_ms"],
            r["plain_steady_ms"], f"{r['ours_first_sound_ms']:.0f} / {r['plain_first_sound_ms']:.0f}",
        )
        for r in rows
    ]  # fmt: skip
    return (
        "#### First audio after the turn decision\n\nOne conversation; ours beside the plain pipeline, same weights, "
        "same run, in turn. *No gap*: when playback may begin if the first 2 s are to be without a gap.\n\n"
        + table(names, cells)
    )


def _many(run: Run) -> str:
    if not run["many"]:
        return ""
    names = ("sessions", "context", "first audio p50, ms", "p95, ms", "no gap for anybody, ms")
    rows = [tuple(each.values()) for each in run["many"]]
    return "#### All turns decided at the same moment\n\n" + table(names, rows)


def _parts(run: Run) -> str:
    if not run["parts"]:
        return ""
    names = ("part", "batch", "context", "ms", "median", "floor", "of", "share of the floor's speed", "naive, ms")
    cells = [
        (
            r["part"], r["batch"], r["context"] or None, r["ms"], r["median_ms"], r["floor_ms"], r["bound"],
            f"{100 * r['share']:.0f} %", r["naive_ms"],
        )
        for r in run["parts"]
    ]  # fmt: skip
    return (
        "#### By part\n\nFloor: bytes to be read over the bandwidth, or multiplications over the peak, both as "
        "measured above. ms is the least of the repetitions.\n\n" + table(names, cells)
    )


def _throughput(run: Run) -> str:
    """How much more a batch gives than one conversation, by context."""
    found = {r["part"] for r in run["parts"]}
    part = next((name for name in ("LLM, one token, recorded", "LLM, one token") if name in found), None)
    ticks = [r for r in run["parts"] if r["part"] == part]
    alone = {r["context"]: r["ms"] for r in ticks if r["batch"] == 1}
    rows = [
        (r["context"], r["batch"], 1e3 * r["batch"] / r["ms"], r["batch"] * alone[r["context"]] / r["ms"])
        for r in ticks
        if r["context"] in alone and r["batch"] > 1
    ]
    if not rows:
        return ""
    names = ("context", "batch", "tokens a second", "times batch 1")
    return "#### Throughput of decode ticks\n\n" + table(names, rows)


def _sessions(run: Run) -> str:
    pieces = []
    if run["ages"]:
        names = ("minutes", "LLM positions", "160 ms of listening, ms", "one token, ms", "cache, MB",
                 "read as served", "one token, ms")  # fmt: skip
        keys = ("minutes", "context", "listening_ms", "token_ms", "cache_mb_each", "served_context", "served_token_ms")
        pieces += [
            "#### What a conversation costs as it grows old\n\nIf nothing is forgotten; in the end as served: the "
            "engine reads at most 2048 positions by default, or what the model reads well.",
            table(names, [tuple(row[key] for key in keys) for row in run["ages"]]),
            plot("one token, ms, by minutes", [(row["minutes"], row["token_ms"]) for row in run["ages"]]),
        ]
    if run["crowds"]:
        names = ("sessions", "listening tick, ms", "each", "token tick, ms", "each", "tokens a second")
        keys = ("sessions", "listening_ms", "listening_ms_each", "token_ms", "token_ms_each", "tokens_per_s")
        pieces += [
            "#### What a conversation costs among others\n\nTwo minutes old, all in one tick.",
            table(names, [tuple(row[key] for key in keys) for row in run["crowds"]]),
            plot("one token, ms each, by sessions", [(row["sessions"], row["token_ms_each"]) for row in run["crowds"]]),
        ]
    return "\n\n".join(pieces)


def plot(title: str, points: Sequence[tuple[float, float]]) -> str:
    """A plot in characters, both axes from 0."""
    width, height = max(x for x, _ in points), max(y for _, y in points)
    grid = [[" "] * (PLOT_WIDTH + 1) for _ in range(PLOT_HEIGHT + 1)]
    for x, y in points:
        grid[PLOT_HEIGHT - round(PLOT_HEIGHT * y / height)][round(PLOT_WIDTH * x / width)] = "*"
    marks = [number(float(height)), *[""] * (PLOT_HEIGHT - 1), "0"]
    lines = [f"{mark:>7} |{''.join(row).rstrip()}" for mark, row in zip(marks, grid, strict=True)]
    axis = [f"{'':>7} +{'-' * PLOT_WIDTH}", f"{'':>8}0{number(float(width)):>{PLOT_WIDTH}}"]
    return "\n".join(["```text", title, *lines, *axis, "```"])
