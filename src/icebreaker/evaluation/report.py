"""A report: JSON for machines, a Markdown table for people, a plot where matplotlib is there."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from icebreaker.errors import ConfigError
from icebreaker.extras import load_extra

__all__ = ["Cell", "Chart", "Curves", "Panel", "Report", "Table"]

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Rows of cells under a heading; a number is shown with ``digits`` decimals."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    digits: int = 2

    def markdown(self, heading: str = "##") -> str:
        """The table, with its title above."""
        lines = [f"{heading} {self.title}", "", _row(self.columns), _row(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_row([self._cell(cell) for cell in row]) for row in self.rows]
        return "\n".join(lines) + "\n"

    def _cell(self, cell: Cell) -> str:
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return "–"
        return f"{cell:.{self.digits}f}" if isinstance(cell, float) else str(cell)


@dataclass(frozen=True)
class Chart:
    """Bars: a label and a value each, and other systems' figures as lines."""

    title: str
    unit: str
    bars: Mapping[str, float]
    lines: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """One figure over another, in a picture of its own: each line is a system, points of (x, y).

    Attributes:
        title: what is drawn.
        ticks: names of the places x = 0, 1, ...
        lines: by system; a place without a value is left out.
    """

    title: str
    ticks: Sequence[str]
    lines: Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Curves:
    """Panels beside each other over one axis."""

    axis: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Report:
    """Figures, how they are shown, and what they depend on.

    Attributes:
        name: of the evaluation; the files are ``<name>.json``, ``<name>.md`` and ``<name>.png``.
        figures: everything measured, ready for JSON.
        facts: commit, model hash, machine, seed, options.
        tables: for people; published figures of others are rows or tables of their own.
        notes: what a reader must know to read the tables.
        chart: one picture.
    """

    name: str
    figures: Mapping[str, Any]
    facts: Mapping[str, Any]
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    chart: Chart | Curves | None = None

    def markdown(self) -> str:
        """The whole page."""
        facts = [f"- {name}: {value}" for name, value in self.facts.items()]
        label = f": {self.facts['label']}" if self.facts.get("label") else ""
        parts = [
            f"# {self.name}{label}\n",
            *[table.markdown() for table in self.tables],
            *[f"{note}\n" for note in self.notes],
        ]
        return "\n".join([*parts, "## Measured with\n", *facts]) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write all files into ``folder``; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "evaluation": self.name, "figures": self.figures, "measured_with": self.facts,
            "tables": [asdict(table) for table in self.tables], "notes": self.notes,
        }  # fmt: skip
        files = [folder / f"{self.name}.json", folder / f"{self.name}.md"]
        files[0].write_text(json.dumps(_finite(content), indent=1, ensure_ascii=False, default=str) + "\n")
        files[1].write_text(self.markdown())
        picture = folder / f"{self.name}.png"
        if self.chart is not None and _draw(self.chart, picture):
            files.append(picture)
        return files


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _draw(chart: Chart | Curves, path: Path) -> bool:
    """Whether there was something to draw, and something to draw it with."""
    try:
        figures = load_extra("matplotlib.figure", "plots")
    except ConfigError:
        return False
    figure = _bars(chart, figures.Figure) if isinstance(chart, Chart) else _curves(chart, figures.Figure)
    if figure is not None:
        figure.savefig(path, dpi=110)
    return figure is not None


def _curves(chart: Curves, figure_of: Callable[..., Any]) -> Any:
    panels = [panel for panel in chart.panels if any(panel.lines.values())]
    if not panels:
        return None
    figure = figure_of(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, points in panel.lines.items():
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set_xticks(range(len(panel.ticks)), panel.ticks)
        axes.set(title=panel.title, xlabel=chart.axis, ylim=(0, None))
        axes.legend(fontsize="small")
    return figure


def _bars(chart: Chart, figure_of: Callable[..., Any]) -> Any:
    if not chart.bars:
        return None
    figure = figure_of(figsize=(8, 1.2 + 0.35 * len(chart.bars)), layout="constrained")
    axes = figure.subplots()
    labels, values = list(chart.bars), [0.0 if math.isnan(value) else value for value in chart.bars.values()]
    axes.barh(labels, values, color="tab:blue")
    for index, value in enumerate(chart.bars.values()):
        axes.text(values[index], index, f" {value:.1f}", va="center")
    for number, (name, value) in enumerate(chart.lines.items()):
        axes.axvline(value, color=f"C{number + 1}", linestyle="--", label=f"{name}: {value:g}")
    if chart.lines:
        axes.legend(fontsize="small")
    axes.invert_yaxis()
    axes.set(title=chart.title, xlabel=chart.unit)
    return figure
