"""How many replicas there should be. Knows nothing of how they are started; Ray Serve calls it as its policy."""

import math
from typing import Any

from icebreaker.engine.interface import EngineStats

__all__ = ["FreeRoom", "replicas_for", "taken"]

TAKEN = "taken"  # the metric that every replica reports


def taken(stats: EngineStats, max_sessions: int) -> float:
    """The share of a replica that is taken, by people who are in or by replies under way, whichever is scarcer."""
    return max(stats.sessions / max_sessions, stats.speaking / stats.slots)


def replicas_for(shares: list[float], spare: float) -> int:
    """As many replicas as leave ``spare`` of each free where ``shares`` are taken now, spread evenly."""
    return math.ceil(round(sum(shares) / (1 - spare), 6))


class FreeRoom:
    """The policy: as many replicas as keep ``spare`` of their room free. Bounds and delays are Ray Serve's."""

    def __init__(self, spare: float) -> None:
        self.spare = spare

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """The number of replicas wanted, and no state. Who has not reported yet counts as if it were empty."""
        metrics = (context.aggregated_metrics or {}).get(TAKEN) or {}
        if not metrics:
            return context.target_num_replicas, {}
        return max(1, replicas_for(list(metrics.values()), self.spare)), {}
