"""Learning curves from the metrics that training stages leave. Knows nothing of stages or models."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icebreaker.errors import ConfigError
from icebreaker.evaluation.report import Cell, Table
from icebreaker.extras import load_extra

__all__ = ["Curve", "curves_table", "draw_curves", "read_curves"]

LAST_SHARE = 0.1  # of the steps are averaged for the last figure
SMOOTHED = 40  # points on a curve, at most


@dataclass(frozen=True)
class Curve:
    """One run: a row of figures for some of its steps."""

    name: str
    rows: Sequence[Mapping[str, Any]]

    @property
    def hours(self) -> float:
        """Computing time; ``seconds`` in the metrics begin anew when a run is resumed."""
        total, before = 0.0, 0.0
        for row in self.rows:
            seconds = float(row.get("seconds") or 0.0)
            total += seconds - before if seconds >= before else seconds
            before = seconds
        return total / 3600

    def last(self, name: str) -> float | None:
        """The average of ``name`` over the last tenth of the run."""
        values = [float(row[name]) for row in self.rows if isinstance(row.get(name), int | float)]
        tail = values[-max(1, round(LAST_SHARE * len(values))) :]
        return sum(tail) / len(tail) if tail else None


def read_curves(folder: Path) -> list[Curve]:
    """The runs under ``folder`` that left metrics, by name; a damaged line is passed over, as a kill leaves one."""
    curves = []
    for path in sorted(folder.glob("*/metrics.jsonl")):
        rows = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict) and isinstance(row.get("loss"), int | float):
                rows.append(row)
        if rows:
            curves.append(Curve(path.parent.name, rows))
    return curves


def curves_table(curves: Sequence[Curve]) -> Table:
    """Steps, first and last loss, and hours of each run."""
    rows: list[list[Cell]] = [
        [curve.name, int(curve.rows[-1].get("step", 0)), float(curve.rows[0]["loss"]), curve.last("loss"), curve.hours]
        for curve in curves
    ]
    total: list[Cell] = ["all", None, None, None, sum(curve.hours for curve in curves)]
    return Table("Training runs", ("run", "steps", "first loss", "last loss", "hours"), [*rows, total], digits=3)


def draw_curves(curves: Sequence[Curve], path: Path) -> Path | None:
    """One small plot a run; None where matplotlib is not installed or there is nothing to draw."""
    try:
        figures = load_extra("matplotlib.figure", "plots")
    except ConfigError:
        return None
    if not curves:
        return None
    columns = min(3, len(curves))
    lines = -(-len(curves) // columns)
    figure = figures.Figure(figsize=(4 * columns, 2.4 * lines), layout="constrained")
    for index, curve in enumerate(curves):
        axes = figure.add_subplot(lines, columns, index + 1)
        axes.plot(*_smooth(curve))
        axes.set_title(curve.name, fontsize="small")
        axes.tick_params(labelsize="x-small")
    figure.supxlabel("step", fontsize="small")
    figure.supylabel("loss", fontsize="small")
    figure.savefig(path, dpi=110)
    return path


def _smooth(curve: Curve) -> tuple[list[float], list[float]]:
    """Averages of as many rows as leave at most ``SMOOTHED`` points."""
    size = -(-len(curve.rows) // SMOOTHED)
    groups = [curve.rows[start : start + size] for start in range(0, len(curve.rows), size)]
    return (
        [float(group[-1].get("step", 0)) for group in groups],
        [sum(float(row["loss"]) for row in group) / len(group) for group in groups],
    )
