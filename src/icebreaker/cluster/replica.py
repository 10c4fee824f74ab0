"""One replica: an engine and its server inside a Ray Serve actor. Knows nothing of other replicas.

Ray Serve stops a replica by sending it no more connections and waiting until those it has are over; a conversation may
last an hour. So the replica watches for that moment and drains: replies end, then every client is sent away (1001) and
finds its session on another replica.
"""

import asyncio
import logging
import os
from collections.abc import Callable

import ray
from starlette.applications import Starlette

from icebreaker.cluster.plan import EnginePlan, ServePlan
from icebreaker.cluster.scaling import TAKEN, taken
from icebreaker.engine.interface import EngineLike
from icebreaker.engine.store import SessionStore
from icebreaker.server.app import create_app
from icebreaker.server.logs import JsonFormatter

__all__ = ["Build", "Replica", "is_stopping"]

Build = Callable[[EnginePlan, SessionStore | None], EngineLike]

logger = logging.getLogger(__name__)
WATCH_S = 0.2


class Replica:
    """What ``serve.ingress`` wraps. ``build`` makes the engine: what it needs is imported only where it is called."""

    def __init__(self, plan: ServePlan, build: Build) -> None:
        _log_lines()
        self._drained = False
        self._watcher: asyncio.Task[None] | None = None
        is_stopping()  # fails here rather than when it matters
        self.plan = plan
        store = SessionStore(plan.engine.sessions) if plan.engine.sessions is not None else None
        self.engine = build(plan.engine, store)
        self._app = create_app(self.engine, plan.server_with_keys, store)
        self._watcher = asyncio.get_running_loop().create_task(self._watch())
        logger.info("replica ready: model %s, process %d", self.engine.model_name, os.getpid())

    def __serve_build_asgi_app__(self) -> Starlette:
        """For ``serve.ingress``."""
        return self._app

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For the autoscaling policy."""
        return {TAKEN: taken(self.engine.stats(), self.plan.engine.max_sessions)}

    async def __del__(self) -> None:
        """The replica ends; its connections are over."""
        if self._watcher is not None:  # else it never began
            self._watcher.cancel()
            await self._drain()

    async def _watch(self) -> None:
        while not is_stopping():
            await asyncio.sleep(WATCH_S)
        await self._drain()

    async def _drain(self) -> None:
        if not self._drained:
            self._drained = True
            await self._app.state.realtime.drain()


def is_stopping() -> bool:
    """Whether Ray Serve has asked this replica to stop.

    It tells no user code until the last connection is over, so this looks at the actor around us (Ray 2.60). A test
    of a rolling update, and every start of a replica, would find out if that moved.
    """
    (actor,) = ray._private.worker.global_worker.actors.values()  # a process has one
    stopping: bool = actor._replica_impl._shutting_down
    return stopping


def _log_lines() -> None:
    """Every replica is a process of its own: here its logging begins."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    ours = logging.getLogger("icebreaker")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)
