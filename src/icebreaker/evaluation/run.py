"""What every evaluation is given: the model under test, where results go, and what its figures depend on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icebreaker.dialogue import Dialogue
from icebreaker.evaluation.provenance import machine_facts
from icebreaker.evaluation.run_log import RunLog

__all__ = ["Progress", "Run"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Run:
    """One evaluation of one model.

    Attributes:
        dialogue: the model under test.
        model: how the user named it, and its hash.
        out: the folder for reports, recordings and per-item results.
        seed: of all sampling and noise.
        progress: called with the items done and their total.
    """

    dialogue: Dialogue
    model: Mapping[str, Any]
    out: Path
    seed: int = 0
    progress: Progress = lambda done, total: None

    def log(self, name: str, options: Mapping[str, Any]) -> RunLog:
        """Results of ``name`` so far, of the same model, seed and options."""
        return RunLog(self.out / f"{name}.items.jsonl", {"model": self.model, "seed": self.seed, "options": options})

    def facts(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What stands under every table."""
        return {**self.model, **machine_facts(), "seed": self.seed, **options}
