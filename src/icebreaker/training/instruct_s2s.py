"""The InstructS2S recipe with the units of a finished stage: joins ``data.instruct_s2s`` and ``unit_extraction``."""

import functools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icebreaker.config import load_toml
from icebreaker.data.instruct_s2s import InstructS2SConfig, build_instruct_s2s
from icebreaker.data.instruct_s2s_speech import Units
from icebreaker.data.recording import Progress
from icebreaker.data.spread import Spread, here
from icebreaker.errors import ConfigError
from icebreaker.training.devices import device_of
from icebreaker.training.unit_extraction import CENTRES, LoadedUnits, UnitExtractionConfig, UnitExtractor

__all__ = ["load_units", "run"]

logger = logging.getLogger(__name__)
REPORT_EVERY = 50


def run(path: Path, source: Path, out: Path, spread: Spread = here) -> str:
    """Build the data that ``path`` describes, of sets under ``source``, in ``out``, or go on; the report as JSON.

    Raises:
        ConfigError: the configuration does not fit, or the stage that its units come from is not finished.
    """
    config = load_toml(path, InstructS2SConfig)
    units = load_units(config.units) if config.units is not None else None
    report: dict[str, Any] = build_instruct_s2s(config, source, out, units=units, progress=_log, spread=spread)
    return json.dumps(report, indent=2)


def load_units(path: Path) -> Units:
    """What makes units of a waveform at 16 kHz, as the stage ``path`` configures left it."""
    stage = load_toml(path, UnitExtractionConfig)
    centres = stage.output / CENTRES
    if stage.kmeans is None and not centres.is_file():
        raise ConfigError(f"{centres}: no such file; run `icebreaker train {path}` first")
    kmeans = centres if centres.is_file() else stage.kmeans or centres
    UnitExtractor.load(stage.features, kmeans, device_of(stage))  # what does not fit is told here, not by a worker
    return functools.partial(_units, LoadedUnits(stage.features, kmeans.absolute(), stage.device))


def _units(extractor: LoadedUnits, waveform: NDArray[np.float32]) -> tuple[list[int], list[int]]:
    found = extractor(waveform)
    return found.units.tolist(), found.durations.tolist()


def _log(step: str) -> Progress:
    def progress(done: int, total: int) -> None:
        if done % REPORT_EVERY == 0 or done == total:
            logger.info("%s: %d of %d", step, done, total)

    return progress
