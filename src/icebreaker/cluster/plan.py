"""What has to be known to build an engine and its server, here or on another machine. Knows nothing of Ray."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from icebreaker.engine.habits import LEAD_S, LEAN
from icebreaker.errors import ConfigError
from icebreaker.server.config import ServerConfig
from icebreaker.server.gate import read_keys

__all__ = ["SCRIPTED", "EnginePlan", "ServePlan"]

SCRIPTED = "scripted"  # no model
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """An engine, before it is built; paths hold on the machine that builds it.

    Attributes:
        model: ``mini``, a bundle folder, the official checkpoints, or ``scripted``.
        llm: Hugging Face folder of the frozen LLM, where the model does not bring its own.
        max_sessions, slots, capacity, grace_s, lead_s, lean: see ``EngineConfig``.
        sessions: folder that keeps conversations; replicas that share one take over each other's.
        device, dtype: where it computes, and in what precision.
        threads: of the CPU; None is torch's choice.
    """

    model: str = "mini"
    llm: Path | None = None
    max_sessions: int = 64
    slots: int = 8
    capacity: int = 2048
    grace_s: float = 60.0
    lead_s: float = LEAD_S
    lean: float | None = LEAN
    sessions: Path | None = None
    device: str = "cpu"
    dtype: str = "float32"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"expected dtype {', '.join(DTYPES)}, got {self.dtype!r}")


@dataclass(frozen=True, kw_only=True)
class ServePlan:
    """A deployment of replicas, each an engine with a server around it.

    Attributes:
        engine: of each replica.
        server: how each is kept.
        api_key_file: keys that clients need, one a line, on every machine; an alternative to ``server.api_keys``.
        replicas: at least so many.
        max_replicas: at most so many; as many as ``replicas`` means that their number is fixed.
        spare: share of a replica's room that is kept free; more replicas start before the last place is taken.
        cpus, gpus: that each replica needs.
        upscale_delay_s, downscale_delay_s: for how long more, or fewer, replicas must be called for.
    """

    engine: EnginePlan = field(default_factory=EnginePlan)
    server: ServerConfig = field(default_factory=ServerConfig)
    api_key_file: Path | None = None
    replicas: int = 1
    max_replicas: int | None = None
    spare: float = 0.2
    cpus: float = 1.0
    gpus: float = 0.0
    upscale_delay_s: float = 10.0
    downscale_delay_s: float = 600.0

    def __post_init__(self) -> None:
        if not 1 <= self.replicas <= (self.max_replicas or self.replicas):
            raise ConfigError(f"expected 1 to max_replicas replicas, got {self.replicas} and {self.max_replicas}")
        if not 0 <= self.spare < 1:
            raise ConfigError(f"expected a spare share from 0 to below 1, got {self.spare}")

    @property
    def server_with_keys(self) -> ServerConfig:
        """``server`` with the keys of the file; read where it lies."""
        return replace(self.server, api_keys=read_keys(self.api_key_file)) if self.api_key_file else self.server
