"""An engine without a model, for tests of servers and clients: it answers with scripted text and a tone.

It keeps the promises of the real one: turns by the level of the sound, commit, respond, cancel, barge-in, truncation to
what was heard, items, function calls, resuming, refusing. It lives in the event loop and starts no thread.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict

from icebreaker.engine.conversation import Entry
from icebreaker.engine.interface import EngineStats
from icebreaker.engine.lobby import Lobby
from icebreaker.engine.messages import Item, SessionConfig, settled
from icebreaker.engine.scripted_session import Script, ScriptedSession
from icebreaker.engine.store import SessionStore, Stored
from icebreaker.errors import SessionNotFound

__all__ = ["Script", "ScriptedEngine", "ScriptedSession", "echo"]


def echo(items: Sequence[Item], config: SessionConfig) -> str:
    """Say again what was written, or how long what was spoken took."""
    heard = next((item for item in reversed(items) if item.role == "user" or item.kind == "function_call_output"), None)
    if heard is None:
        return "Hello."
    return f"You said: {heard.text}" if heard.text else f"You spoke for {heard.audio_ms / 1000:.1f} seconds."


class ScriptedEngine:
    """Sessions that follow a script.

    Args:
        script: the answer to a conversation: text, or an item of kind ``function_call`` with name and arguments.
        sample_rate: of the tone, in Hz.
        delta_s: wait between two pieces of an answer; 0 sends all of it at once, 0.2 is the speed of playback.
        max_sessions: sessions at a time; one more is refused.
        grace_s: how long a session that was left may be resumed.
        store: keeps conversations, so that another engine can resume them.
        lead_s: of sound that is sent in advance of playback.
        confirm_ms: of speech that interrupt an answer; less holds it for a moment.
    """

    model_name = "scripted"

    def __init__(
        self, script: Script = echo, *, sample_rate: int = 24000, delta_s: float = 0.0, max_sessions: int = 64,
        grace_s: float = 60.0, store: SessionStore | None = None, lead_s: float = math.inf, confirm_ms: float = 0.0,
    ) -> None:  # fmt: skip
        self.script, self.delta_s, self.store = script, delta_s, store
        self._lead_s, self._confirm_ms = lead_s, confirm_ms
        self._sample_rate = sample_rate
        self._lobby: Lobby[ScriptedSession] = Lobby(max_sessions, grace_s)

    @property
    def sample_rate(self) -> int:
        """Of the answers, in Hz."""
        return self._sample_rate

    @asynccontextmanager
    async def session(self, config: SessionConfig, *, resume: str | None = None) -> AsyncIterator["ScriptedSession"]:
        """Enter a conversation; see ``EngineLike``."""
        self._close(self._lobby.expire(time.monotonic()))
        if resume is not None:
            session = self._resumed(resume, config)
            session.config = config
        else:
            self._close(self._lobby.check(time.monotonic()))
            session = self._new(config)
            if self.store is not None:
                self.store.claim(session.id)
        reader = session.enter(resumed=resume is not None)
        try:
            yield session
        finally:
            if session.leave(reader):
                self._lobby.leave(session.id, time.monotonic())

    def _new(self, config: SessionConfig, session_id: str | None = None) -> ScriptedSession:
        session = ScriptedSession(
            self.script, self.sample_rate, self.delta_s, config, session_id, self._keep, self._lead_s, self._confirm_ms
        )
        self._lobby.add(session.id, session)
        return session

    def _resumed(self, session_id: str, config: SessionConfig) -> ScriptedSession:
        store = self.store
        if store is not None and session_id in self._lobby.sessions and store.lost(session_id):
            self._close([self._lobby.remove(session_id)])
        if store is None or session_id in self._lobby.sessions:
            return self._lobby.resume(session_id)
        self._close(self._lobby.check(time.monotonic()))
        saved = store.take(session_id)
        if saved.data["model"] != self.model_name:
            raise SessionNotFound("the session was led by another model; start a new one")
        session = self._new(config, session_id)
        for item in saved.data["entries"]:
            session.conversation.add(Entry(settled(Item(**item))))
        return session

    def _keep(self, session: ScriptedSession) -> None:
        if self.store is not None:
            entries = [asdict(item) for item in session.conversation.items]
            data = {"model": self.model_name, "saved_at": time.time(), "entries": entries}
            self.store.save(session.id, Stored(data, b""))

    def stats(self) -> EngineStats:
        """For metrics and health."""
        sessions = self._lobby.sessions.values()
        return EngineStats(
            sessions=self._lobby.present, slots=self._lobby.max_sessions, speaking=sum(s.replying for s in sessions),
            queued_commands=0, tick_ms_p50=0.0, tick_ms_p95=0.0, bytes_per_session=0, refused=self._lobby.refused,
        )  # fmt: skip

    async def drain(self, timeout_s: float = 30.0) -> None:
        """Refuse new sessions, let replies end, then close every session."""
        self._lobby.draining = True
        stop = time.monotonic() + timeout_s
        while any(session.replying for session in self._lobby.sessions.values()) and time.monotonic() < stop:
            await asyncio.sleep(0.01)
        for session_id in list(self._lobby.sessions):
            self._close([self._lobby.remove(session_id)])

    @staticmethod
    def _close(sessions: "Sequence[ScriptedSession]") -> None:
        for session in sessions:
            session.close()
