from types import SimpleNamespace

import pytest

from icebreaker.cluster.scaling import FreeRoom, replicas_for, taken
from icebreaker.engine.interface import EngineStats


def stats(sessions: int, speaking: int) -> EngineStats:
    return EngineStats(
        sessions=sessions, slots=8, speaking=speaking, queued_commands=0, tick_ms_p50=0, tick_ms_p95=0,
        bytes_per_session=0,
    )  # fmt: skip


def test_the_scarcer_of_places_and_slots_counts() -> None:
    assert taken(stats(16, 1), 64) == 0.25
    assert taken(stats(16, 6), 64) == 0.75


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [([0.0, 0.0], 0), ([0.8], 1), ([0.81], 2), ([0.8, 0.8], 2), ([1.0, 1.0], 3), ([0.1] * 10, 2), ([0.4, 0.4], 1)],
)
def test_as_many_replicas_as_leave_a_fifth_free(shares: list[float], wanted: int) -> None:
    assert replicas_for(shares, 0.2) == wanted


def test_the_policy_keeps_one_and_waits_for_reports() -> None:
    policy = FreeRoom(spare=0.2)
    nothing = SimpleNamespace(aggregated_metrics={}, target_num_replicas=4)
    assert policy(nothing) == (4, {})
    idle = SimpleNamespace(aggregated_metrics={"taken": {"a": 0.0, "b": 0.0}}, target_num_replicas=2)
    assert policy(idle) == (1, {})
    busy = SimpleNamespace(aggregated_metrics={"taken": {"a": 1.0, "b": 0.9}}, target_num_replicas=2)
    assert policy(busy) == (3, {})
