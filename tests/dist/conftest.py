"""A Ray cluster of two CPUs on this machine for the tests of one file."""

import os
import sys
import uuid
from collections.abc import Iterator

import pytest

TRIES = 3  # of starting it: Ray gives itself half a minute, which is short on a machine with other work


def pytest_configure(config: pytest.Config) -> None:
    """Ray leaves its processes to themselves when it ends, and warns of its own ways."""
    config.addinivalue_line("filterwarnings", "ignore")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="needs icebreaker-speech[dist]: run `make test-dist`")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # workers import the tests' own functions
    os.environ["ICEBREAKER_TEST"] = uuid.uuid4().hex  # by which our processes are known among all others
    for attempt in range(TRIES):
        try:
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            break
        except Exception:
            ray.shutdown()
            if attempt == TRIES - 1:
                raise
    yield
    ray.shutdown()
