"""Who is in, who may still come back, and who is refused. Knows nothing of what a session does; time is passed in."""

from typing import Generic, TypeVar

from icebreaker.errors import AdmissionError, SessionNotFound

__all__ = ["Lobby"]

S = TypeVar("S")


class Lobby(Generic[S]):
    """Sessions by id. One that was left stays for a grace period, unless its place is needed before."""

    def __init__(self, max_sessions: int, grace_s: float) -> None:
        if max_sessions < 1 or grace_s < 0:
            raise ValueError(f"expected at least 1 session and a grace of 0 s or more, got {max_sessions}, {grace_s}")
        self.max_sessions, self.grace_s = max_sessions, grace_s
        self.sessions: dict[str, S] = {}
        self.draining = False
        self.refused = 0
        self._left: dict[str, float] = {}  # id to the time of leaving, oldest first

    @property
    def present(self) -> int:
        """Sessions that somebody is in."""
        return len(self.sessions) - len(self._left)

    def check(self, now: float) -> list[S]:
        """Whether there is room for one more; returns the left session whose place it takes, if it has to.

        Raises:
            AdmissionError: everybody is present, or the engine is shutting down.
        """
        if self.draining:
            self.refused += 1
            raise AdmissionError("the engine is shutting down and takes no more sessions; try another one", 30.0)
        if len(self.sessions) < self.max_sessions:
            return []
        if not self._left:
            self.refused += 1
            raise AdmissionError(
                f"all {self.max_sessions} sessions are taken; try again in a few seconds, or allow more of them"
            )
        oldest = next(iter(self._left))
        return [self.remove(oldest)]

    def add(self, session_id: str, session: S) -> None:
        """Let a session in."""
        self.sessions[session_id] = session

    def resume(self, session_id: str) -> S:
        """A session that was left, or is still held by a connection that has not noticed its own end.

        Raises:
            SessionNotFound: there is none by that id.
        """
        if session_id not in self.sessions:
            raise SessionNotFound(f"no session {session_id[:40]!r} to resume; it has ended: start a new one")
        self._left.pop(session_id, None)
        return self.sessions[session_id]

    def leave(self, session_id: str, now: float) -> None:
        """Somebody left; the session may be resumed for the grace period."""
        if session_id in self.sessions:
            self._left.pop(session_id, None)
            self._left[session_id] = now

    def remove(self, session_id: str) -> S:
        """Forget a session for good."""
        self._left.pop(session_id, None)
        return self.sessions.pop(session_id)

    def expire(self, now: float) -> list[S]:
        """Forget the sessions whose grace period is over, and return them."""
        gone = [each for each, since in self._left.items() if now - since >= self.grace_s]
        return [self.remove(each) for each in gone]
