"""The engine without a model, as planned. Imports nothing heavy."""

from icebreaker.cluster.plan import EnginePlan
from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.engine.store import SessionStore

__all__ = ["build_scripted"]

DELTA_S = 0.1  # between two words


def build_scripted(plan: EnginePlan, store: SessionStore | None) -> ScriptedEngine:
    """The engine, which keeps its sessions in ``store``."""
    return ScriptedEngine(delta_s=DELTA_S, max_sessions=plan.max_sessions, grace_s=plan.grace_s, store=store)
