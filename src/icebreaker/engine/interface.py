"""What the server needs of an engine. The real one and the scripted one for tests both are this."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from icebreaker.engine.messages import Command, SessionConfig, SessionEvent

__all__ = ["EngineLike", "EngineStats", "SessionLike"]


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """What an engine is doing now; counters count since its start.

    Attributes:
        sessions: that somebody is in.
        slots: conversations that can be active at the same moment.
        speaking: replies under way.
        queued_commands: commands not yet looked at.
        tick_ms_p50, tick_ms_p95: time of a step over all conversations, lately.
        bytes_per_session: what one more conversation costs in memory.
        refused: sessions that found no room.
        replies: that were begun.
        barge_ins: replies that the user's speech stopped.
        underruns: times that a listener ran out of sound in the middle of a reply.
        first_audio_ms: from the decision to take the turn to the first sound, of the newest replies, oldest first.
    """

    sessions: int
    slots: int
    speaking: int
    queued_commands: int
    tick_ms_p50: float
    tick_ms_p95: float
    bytes_per_session: int
    refused: int = 0
    replies: int = 0
    barge_ins: int = 0
    underruns: int = 0
    first_audio_ms: tuple[float, ...] = ()


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

        A resumed conversation tells its items first: an ``ItemAdded`` for each, in order.

        Raises:
            AdmissionError: every slot is taken; says when to try again.
            SessionNotFound: nothing to resume by that id.
        """

    def stats(self) -> EngineStats:
        """For metrics and health."""

    async def drain(self, timeout_s: float = 30.0) -> None:
        """Refuse new sessions, let replies end for at most ``timeout_s``, then close every session."""
