"""What the server needs of an engine. The real one and the scripted one for tests both are this."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from icebreaker.engine.messages import Command, SessionConfig, SessionEvent

__all__ = ["EngineLike", "EngineStats", "SessionLike"]


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """What an engine is doing now; counters count since its start."""

    sessions: int
    slots: int
    speaking: int
    queued_commands: int
    tick_ms_p50: float
    tick_ms_p95: float
    bytes_per_session: int


class SessionLike(Protocol):
    """One conversation. ``push`` never blocks; ``events`` ends when the session is closed."""

    @property
    def id(self) -> str:
        """Unique, hard to guess; also what a client resumes by."""

    def push(self, command: Command) -> None:
        """Hand over a command."""

    def events(self) -> AsyncIterator[SessionEvent]:
        """Everything that happens, in order."""


class EngineLike(Protocol):
    """Holds the model and its sessions."""

    @property
    def sample_rate(self) -> int:
        """Of the answers, in Hz."""

    @property
    def model_name(self) -> str:
        """What clients see."""

    def session(self, config: SessionConfig, *, resume: str | None = None) -> AbstractAsyncContextManager[SessionLike]:
        """Enter a conversation, a new one or, by its id, one that was left within the grace period.

        Raises:
            AdmissionError: every slot is taken; says when to try again.
            SessionNotFound: nothing to resume by that id.
        """

    def stats(self) -> EngineStats:
        """For metrics and health."""
