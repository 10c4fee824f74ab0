"""Started by torchrun: trains the stages that a JSON file lists, one after the other, in the processes there are."""

import json
import sys
from pathlib import Path
from typing import Any

from icebreaker.config import from_mapping
from icebreaker.training.processes import processes
from icebreaker.training.stages import STAGES


class StopError(Exception):
    """The run is to end here, as if it were killed."""


def train(job: dict[str, Any]) -> None:
    """``job``: the whole configuration of a stage, and the step before whose saving it stops, 0 for never."""

    def stop(report: Any) -> None:
        if report.step == job["stop"]:
            raise StopError

    config_class, run = STAGES[job["config"]["stage"]]
    try:
        run(from_mapping(config_class, job["config"], "job"), stop)
    except StopError:
        print("stopped at", job["stop"])


if __name__ == "__main__":
    with processes():
        for each in json.loads(Path(sys.argv[1]).read_text()):
            train(each)
