"""Stages are tested on the CPU, where they are the same to the bit, whatever the machine has."""

from collections.abc import Iterator

import pytest

from icebreaker.training import devices, loop


@pytest.fixture(autouse=True, scope="session")
def no_gpu() -> Iterator[None]:
    """``device = "auto"`` is the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "gpu_count", lambda: 0)
        yield


@pytest.fixture(autouse=True, scope="session")
def bfloat16_where_it_is_asked_for() -> Iterator[None]:
    """Tests that train in bfloat16 do so on every machine, however slowly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "has_bfloat16", lambda device: True)
        yield
