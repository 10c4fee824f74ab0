"""Scored scenes to tables, beside what others published. Knows nothing of how they were played."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from icebreaker.evaluation.duplex.scenes import KINDS, Scene
from icebreaker.evaluation.measures import share, spread_of
from icebreaker.evaluation.published import DUPLEX
from icebreaker.evaluation.report import Cell, Chart, Report, Table

__all__ = ["duplex_report"]

FLOOR = ("turn", "pause", "hesitation", "interruption")
DISTURBANCES = ("backchannel", "noise", "noise while speaking", "echo")
Results = Sequence[tuple[Scene, Mapping[str, Any]]]


def duplex_report(results: Results, facts: Mapping[str, Any], recogniser: str) -> Report:
    """Tables of ``results``: a scene and its figures each."""
    by_kind = defaultdict[str, list[tuple[Scene, Mapping[str, Any]]]](list)
    for scene, figure in results:
        by_kind[scene.kind].append((scene, figure))
    rows = {kind: [figure for _, figure in by_kind[kind]] for kind in KINDS if kind in by_kind}
    figures: dict[str, Any] = {kind: _figures(kind, found) for kind, found in rows.items()}
    figures["underruns"] = sum(figure["underruns"] for _, figure in results)
    figures["failures"] = sum(figure["failures"] for _, figure in results)
    tables = [
        _floor_table(figures), _interruption_table(figures), _disturbance_table(figures, by_kind),
        _monologue_table(figures), _published(),
    ]  # fmt: skip
    notes = [
        f"Words of the assistant's channel by {recogniser}. Turn-over: its words span a second or number more than "
        "three; for interruptions only words after the user's end count, for pauses only words before it. Latency is "
        "counted to the first word where a turn was taken, and not below 0; 'to sound' to the first sample above "
        "-40 dB of full scale.",
        "The listener stops the playback when the system reports speech, as Realtime clients do, and tells it how much "
        "was heard. History is right when the system keeps a beginning of its text as long as what the recogniser "
        "finds in the heard sound, to one word; a leak is an unheard word in the answer to 'What did you just say?'.",
        f"{figures['underruns']} gaps in the assistant's sound, {figures['failures']} errors reported by the system.",
    ]
    bars = {kind: figures[kind]["tor"]["percent"] for kind in (*FLOOR, "monologue") if kind in figures}
    bars |= {f"{kind}: answered": figures[kind]["answered"]["percent"] for kind in DISTURBANCES if kind in figures}
    chart = Chart("Who takes the turn", "of scenes, %", bars)
    return Report("duplex", figures, facts, [table for table in tables if table.rows], notes, chart)


def _figures(kind: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if kind in DISTURBANCES:
        return {
            "scenes": len(rows), "tried": sum(row["tried"] for row in rows),
            **{name: share(_known(rows, name)) for name in ("answered", "obeyed")},
        }  # fmt: skip
    figures: dict[str, Any] = {"scenes": len(rows), "tor": share([row["tor"] for row in rows])}
    if kind in ("turn", "interruption"):
        names = ("latency_s", "sound_s") if kind == "turn" else ("latency_s", "overlap_s", "silence_s", "response_s")
        figures |= {name: spread_of(_known(rows, name)) for name in names}
    if kind == "interruption":
        figures["met_speech"] = sum(row["met_speech"] for row in rows)
        figures |= {name: share(_known(rows, name)) for name in ("history_right", "leaked")}
    if kind == "monologue":
        seconds = sum(row["seconds"] for row in rows)
        figures["backchannels_per_s"] = sum(row["backchannels"] for row in rows) / max(seconds, 1e-9)
        figures["seconds"] = seconds
    return figures


def _known(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if row.get(name) is not None]


def _percent(figure: Mapping[str, float]) -> list[Cell]:
    return [figure["percent"], f"{figure['low']:.0f} to {figure['high']:.0f}" if figure["count"] else None]


def _floor_table(figures: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = []
    for kind in FLOOR:
        if (found := figures.get(kind)) is None:
            continue
        latency, sound = found.get("latency_s", {}), found.get("sound_s", found.get("response_s", {}))
        waits = [latency.get("average"), latency.get("p50"), latency.get("p90"), sound.get("p50")]
        rows.append([f"{kind}: {KINDS[kind]}", *_percent(found["tor"]), *waits, found["scenes"]])
    names = ("scene", "TOR %", "95 %", "latency, average s", "p50 s", "p90 s", "to sound, p50 s", "n")
    return Table("Who takes the turn", names, rows)


def _interruption_table(figures: Mapping[str, Any]) -> Table:
    found = figures.get("interruption")
    names = {
        "overlap_s": "both sound after the interruption, s", "silence_s": "interruption to silence, s",
        "response_s": "user's end to the next answer, s",
    }  # fmt: skip
    rows: list[list[Cell]] = []
    if found is not None:
        spreads = {label: found[name] for name, label in names.items()}
        rows = [[label, f["p50"], f["p90"], f["average"], f["count"]] for label, f in spreads.items()]
        shares = {"history right, %": found["history_right"], "unheard words repeated, %": found["leaked"]}
        rows += [[label, None, None, f["percent"], f["count"]] for label, f in shares.items()]
    return Table("After an interruption", ("figure", "p50", "p90", "average", "n"), rows)


def _disturbance_table(
    figures: Mapping[str, Any], by_kind: Mapping[str, Sequence[tuple[Scene, Mapping[str, Any]]]]
) -> Table:
    """A row a kind, then a row for each of its sorts (levels, noises, words)."""
    rows: list[list[Cell]] = []
    for kind in DISTURBANCES:
        if kind not in figures:
            continue
        sorts = sorted({scene.about for scene, _ in by_kind[kind]})
        groups = {KINDS[kind]: [f for _, f in by_kind[kind]]}
        groups |= {f"– {sort}": [f for scene, f in by_kind[kind] if scene.about == sort] for sort in sorts if sort}
        for label, group in groups.items():
            found = _figures(kind, group)
            obeyed = found["obeyed"]["percent"] if found["obeyed"]["count"] else None
            answered = found["answered"]["percent"] if found["answered"]["count"] else None
            rows.append([label, answered, obeyed, found["tried"]])
    return Table("What should change nothing", ("disturbance", "answered %", "fell silent %", "n"), rows, digits=1)


def _monologue_table(figures: Mapping[str, Any]) -> Table:
    found = figures.get("monologue")
    rows: list[list[Cell]] = []
    if found is not None:
        rows = [[found["tor"]["percent"], found["backchannels_per_s"], found["seconds"], found["scenes"]]]
    return Table("While the user speaks at length", ("taken over %", "backchannels a second", "seconds", "n"), rows, 3)


def _published() -> Table:
    columns = (
        "system",
        "pause TOR, synthetic",
        "pause TOR, Candor",
        "turn TOR",
        "latency, s",
        "interruption TOR",
        "latency, s",
    )
    return Table("Published: Full-Duplex-Bench v1", columns, [[name, *row] for name, row in DUPLEX.items()], digits=3)
