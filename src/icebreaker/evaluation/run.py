"""What every evaluation is given: the system under test, where results go, and what its figures depend on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icebreaker.dialogue import Dialogue
from icebreaker.errors import ConfigError
from icebreaker.evaluation.provenance import machine_facts
from icebreaker.evaluation.run_log import RunLog
from icebreaker.evaluation.systems import LocalModel, System

__all__ = ["Progress", "Run"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Run:
    """One evaluation of one system.

    Attributes:
        system: what is measured: a model here, or a Realtime server.
        model: how the user named it, and its hash where its weights are here.
        out: the folder for reports, recordings and per-item results.
        seed: of all sampling and noise.
        progress: called with the items done and their total.
        label: what sets this system apart from others in one table; empty for none.
        command: the command line, for the report.
    """

    system: System
    model: Mapping[str, Any]
    out: Path
    seed: int = 0
    progress: Progress = lambda done, total: None
    label: str = ""
    command: str = ""

    @property
    def dialogue(self) -> Dialogue:
        """The model itself.

        Raises:
            ConfigError: it is a server, whose parts cannot be reached.
        """
        if not isinstance(self.system, LocalModel):
            raise ConfigError(
                "this looks into the model itself and cannot ask a server; give --model instead of --server"
            )
        return self.system.dialogue

    def log(self, name: str, options: Mapping[str, Any]) -> RunLog:
        """Results of ``name`` so far, of the same model, seed and options."""
        return RunLog(self.out / f"{name}.items.jsonl", {"model": self.model, "seed": self.seed, "options": options})

    def facts(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What stands under every table."""
        named = {name: value for name, value in (("label", self.label), ("command", self.command)) if value}
        return {**named, **self.model, **machine_facts(), "seed": self.seed, **options}
