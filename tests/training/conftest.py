"""Stages are tested on the CPU, where they are the same to the bit, whatever the machine has."""

from collections.abc import Iterator

import pytest

from icebreaker.training import devices


@pytest.fixture(autouse=True, scope="session")
def no_gpu() -> Iterator[None]:
    """``device = "auto"`` is the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "gpu_count", lambda: 0)
        yield
