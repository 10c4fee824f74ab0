"""Which replica gets a connection: by name, where it has one, else the emptier of two. Lives in Ray Serve's proxies."""

import random
from typing import Any

from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

__all__ = ["StickyRouter"]


class StickyRouter(ConsistentHashRouter):  # type: ignore[misc]  # Ray has no types that mypy is shown
    """Connections with the same ``x-session-id`` meet the same replica for as long as it lives.

    Ray's router draws a replica by lot for those without, and draws without looking: at four fifths of all places
    taken, many a newcomer would be sent to a replica that is full while others are not.
    """

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> list[list[Any]]:
        """Ranks of replicas to be tried; of each rank the least busy is taken."""
        if pending_request is None or pending_request.metadata.session_id or len(candidate_replicas) < 2:
            ranks: list[list[Any]] = await super().choose_replicas(candidate_replicas, pending_request)
            return ranks
        pending_request.routing_context.should_backoff = True
        return [random.sample(candidate_replicas, 2)]
