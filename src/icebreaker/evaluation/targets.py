"""What was promised beside what was measured: one row a promise. Knows nothing of how it was measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from icebreaker.evaluation.report import Cell, Table

__all__ = ["promises"]

Figures = Mapping[str, Any]
Measure = Callable[[Mapping[str, Figures]], float | None]


def promises(reports: Mapping[str, Figures]) -> Table:
    """Every promise, with the figure that ``reports`` (figures by evaluation) have for it."""
    rows: list[list[Cell]] = []
    for name, bound, target, measure in PROMISES:
        value = measure(reports)
        known = value is not None and math.isfinite(value)
        kept = "not measured"
        if known and value is not None:
            kept = "kept" if (value >= target if bound == "at least" else value <= target) else "**not kept**"
        rows.append([name, f"{bound} {target:g}", value if known else None, kept])
    return Table("What was promised", ("figure", "promised", "measured", ""), rows)


def _at(evaluation: str, *path: str) -> Measure:
    """The figure under ``path`` of an evaluation, where there is one."""

    def measure(reports: Mapping[str, Figures]) -> float | None:
        value: Any = reports.get(evaluation)
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return float(value) if isinstance(value, int | float) else None

    return measure


def _of(combine: Callable[[Sequence[float]], float], *measures: Measure) -> Measure:
    """``combine`` of several figures; None where one is missing."""

    def measure(reports: Mapping[str, Figures]) -> float | None:
        values = [each(reports) for each in measures]
        known = [value for value in values if value is not None]
        return combine(known) if len(known) == len(values) else None

    return measure


def _ratio(values: Sequence[float]) -> float:
    return values[0] / values[1] if values[1] else float("nan")


def _difference(values: Sequence[float]) -> float:
    return values[0] - values[1]


def _deployed_wer(reports: Mapping[str, Figures]) -> float | None:
    """At chunk 4, as recorded, all voices."""
    return _at("asr", "4 (160 ms) | as recorded | all", "wer")(reports)


def _worst(name: str) -> Measure:
    kinds = ("backchannel", "noise", "noise while speaking", "echo")

    def measure(reports: Mapping[str, Figures]) -> float | None:
        found = [_at("duplex", kind, name, "percent")(reports) for kind in kinds]
        return max((value for value in found if value is not None), default=None)

    return measure


def _over_floor(reports: Mapping[str, Figures]) -> float | None:
    """The best top-k above the source voice, in points of WER."""
    speech = reports.get("speech") or {}
    said = [figure["wer"] for name, figure in speech.items() if name.startswith("top-k") and figure["wer"] is not None]
    floor = _at("speech", "source voice", "wer")(reports)
    return min(said) - floor if said and floor is not None else None


def _right(condition: str, task: str) -> Measure:
    return _at("sqa", f"{condition} | all | {task}", "percent")


T_T = _right("writing", "T→T")
PROMISES: tuple[tuple[str, str, float, Measure], ...] = (
    ("right answers in writing (T→T), %", "at least", 92.0, T_T),
    ("by ear in quiet, over in writing (A→T / T→T)", "at least", 0.93, _of(_ratio, _right("quiet", "A→T"), T_T)),
    ("by ear at 10 dB SNR, over in writing", "at least", 0.85, _of(_ratio, _right("10 dB", "A→T"), T_T)),
    ("by ear minus by ear and mouth (A→T − A→S), points", "at most", 5.0,
     _of(_difference, _right("quiet", "A→T"), _right("quiet", "A→S"))),
    ("recognition at chunk = 4, WER %", "at most", 8.0, _deployed_wer),
    ("speech out above the source voice, points of WER", "at most", 4.0, _over_floor),
    ("turn TOR, %", "at least", 95.0, _at("duplex", "turn", "tor", "percent")),
    ("turn latency, p50, s", "at most", 0.4, _at("duplex", "turn", "latency_s", "p50")),
    ("pause TOR, %", "at most", 20.0, _at("duplex", "pause", "tor", "percent")),
    ("interruption TOR, %", "at least", 95.0, _at("duplex", "interruption", "tor", "percent")),
    ("interruption to silence, p50, s", "at most", 0.3, _at("duplex", "interruption", "silence_s", "p50")),
    ("noise, backchannels, echo answered, worst kind, %", "at most", 5.0, _worst("answered")),
    ("noise, backchannels, echo obeyed, worst kind, %", "at most", 5.0, _worst("obeyed")),
    ("turn decided to first sound, p50, ms", "at most", 200.0, _at("latency", "sum", "p50")),
    ("real-time factor of speaking, p50", "at most", 0.5, _at("latency", "real-time factor", "speaking", "p50")),
    ("under load: turn decided to first audio, p95, ms", "at most", 500.0,
     _at("load", "turn decided to first audio, ms", "p95")),
    ("under load: underruns", "at most", 0.0, _at("load", "underruns")),
)  # fmt: skip
