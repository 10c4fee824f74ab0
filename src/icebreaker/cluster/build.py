"""An engine as planned. Knows nothing of Ray."""

from pathlib import Path

import torch

from icebreaker.cluster.plan import EnginePlan
from icebreaker.engine.allocator import bound_caches, spare_collector
from icebreaker.engine.engine import Engine, EngineConfig
from icebreaker.engine.store import SessionStore
from icebreaker.talking import load_dialogue

__all__ = ["build_engine"]


def build_engine(plan: EnginePlan, store: SessionStore | None) -> Engine:
    """The engine, ready to take sessions, which it keeps in ``store``."""
    bound_caches()
    if plan.threads:
        torch.set_num_threads(plan.threads)
    dialogue = load_dialogue(plan.model, plan.llm, device=plan.device, dtype=plan.dtype)
    config = EngineConfig(
        max_sessions=plan.max_sessions, slots=plan.slots, capacity=plan.capacity, grace_s=plan.grace_s,
        lead_s=plan.lead_s, lean=plan.lean,
    )  # fmt: skip
    engine = Engine(dialogue, config, name=Path(plan.model).name, store=store)
    spare_collector()
    return engine
