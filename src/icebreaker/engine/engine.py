"""Many conversations over one model: the door that sessions come in by. ``loop`` is what happens behind it."""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import torch

from icebreaker.audio.vad import Silero
from icebreaker.dialogue import Dialogue
from icebreaker.engine.device import Device
from icebreaker.engine.habits import LEAD_S, LEAN, Habits
from icebreaker.engine.interface import EngineStats
from icebreaker.engine.live import Live
from icebreaker.engine.lobby import Lobby
from icebreaker.engine.loop import Loop
from icebreaker.engine.memory import Memory
from icebreaker.engine.messages import Append, Command, SessionConfig
from icebreaker.engine.outbox import Outbox
from icebreaker.engine.session import Session
from icebreaker.engine.snapshot import Snapshot, restore, snapshot
from icebreaker.engine.store import SessionStore
from icebreaker.errors import SessionNotFound
from icebreaker.models.chat_layout import ChatLayout

__all__ = ["Engine", "EngineConfig"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How many, how long, how far ahead.

    Attributes:
        max_sessions: that may be in at a time.
        slots: conversations that can be active at the same moment; the others wait for a slot.
        capacity: LLM positions of a conversation: 12.5 a second of speech, one a token. Older turns are forgotten.
        grace_s: how long a session that was left may be resumed.
        ahead_s: of sound that is made in advance of playback.
        lead_s: of it, what is sent in advance, where speech may interrupt: so long it still sounds after that.
        lean: probability of the state head from which the reply to somebody who has fallen silent is begun before the
            turn is decided, and forgotten without a trace if it was wrong; None: never.
    """

    max_sessions: int = 64
    slots: int = 8
    capacity: int = 2048
    grace_s: float = 60.0
    ahead_s: float = 4.0
    lead_s: float = LEAD_S
    lean: float | None = LEAN

    def __post_init__(self) -> None:
        if min(self.max_sessions, self.slots) < 1 or self.capacity < 256 or self.ahead_s < 1:
            raise ValueError(
                "expected at least 1 session, 1 slot, 256 positions and 1 s ahead, got "
                f"{self.max_sessions}, {self.slots}, {self.capacity}, {self.ahead_s}"
            )
        if self.lead_s < 0.1 or not (self.lean is None or 0 <= self.lean <= 1):
            raise ValueError(f"expected lead_s of 0.1 s or more and lean in 0 .. 1, got {self.lead_s} and {self.lean}")


class Engine:
    """One model, many sessions; see ``EngineLike``. Its thread starts with the first session, ``close`` ends it."""

    def __init__(
        self, dialogue: Dialogue, config: EngineConfig | None = None, *, name: str = "mini",
        store: SessionStore | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.config = config or EngineConfig()
        self.device = Device(dialogue, self.config.slots, self.config.capacity)
        self.model_name, self.store, self._clock = name, store, clock
        self._silero = Silero()
        self._layout = ChatLayout(dialogue.model.llm.tokenizer, dialogue.model.chat.rule)
        self._knows_tools = self._layout.knows_tools()
        self._lobby: Lobby[Session] = Lobby(self.config.max_sessions, self.config.grace_s)
        self.loop = Loop(self.device, self._silero, self.config.ahead_s, clock, self._keep)
        self._writer = ThreadPoolExecutor(1, "sessions-to-disk") if store is not None else None
        self._fingerprint = _fingerprint(dialogue)
        self._slot_bytes = self.device.bytes_per_slot()

    @property
    def sample_rate(self) -> int:
        """Of the answers, in Hz."""
        return self.device.dialogue.sample_rate

    # The event loop's side.

    @asynccontextmanager
    async def session(self, config: SessionConfig, *, resume: str | None = None) -> AsyncIterator[Session]:
        """Enter a conversation; see ``EngineLike``."""
        self.loop.start()
        session = self.enter(config, resume)
        session.reader = reader = session.outbox.attach()
        try:
            yield session
        finally:
            if session.reader == reader:
                self._lobby.leave(session.id, self._clock())
                self.loop.submit(lambda: session.live.leave(self._clock()))

    def stats(self) -> EngineStats:
        """For metrics and health."""
        ticks = sorted(self.loop.ticks_ms) or [0.0]
        lives = list(self.loop.lives)
        return EngineStats(
            sessions=self._lobby.present, slots=self.config.slots,
            speaking=sum(live.talking.under_way for live in lives),
            queued_commands=sum(live.waiting_commands for live in lives),
            tick_ms_p50=ticks[len(ticks) // 2], tick_ms_p95=ticks[int(len(ticks) * 0.95)],
            bytes_per_session=self._slot_bytes, refused=self._lobby.refused, replies=self.loop.totals["replies"],
            barge_ins=self.loop.totals["barge_ins"], underruns=self.loop.totals["underruns"],
            first_audio_ms=tuple(self.loop.first_audio_ms),
        )  # fmt: skip

    async def drain(self, timeout_s: float = 30.0) -> None:
        """Refuse new sessions, let replies end for at most ``timeout_s``, then close every session."""
        self._lobby.draining = True
        stop = self._clock() + timeout_s
        while self._clock() < stop and any(live.talking.audible(self._clock()) for live in list(self.loop.lives)):
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Stop the thread; stored sessions are on disk when this returns."""
        self._lobby.draining = True
        self.loop.stop()
        for session in list(self._lobby.sessions.values()):
            self._keep(session.live)
            session.outbox.close()
        if self._writer is not None:
            self._writer.shutdown()

    def enter(self, config: SessionConfig, resume: str | None = None) -> Session:
        """A session without its context manager, for callers that turn the loop themselves."""
        now = self._clock()
        self._remove(self._lobby.expire(now))
        if resume is not None:
            if self.store is not None and resume in self._lobby.sessions and self.store.lost(resume):
                self._remove([self._lobby.remove(resume)])  # it went on elsewhere; what is here is out of date
            try:
                session = self._lobby.resume(resume)
            except SessionNotFound:
                return self._from_store(config, resume, now)
            session.outbox.clear()
            self.loop.submit(lambda: self._reenter(session, config))
            return session
        self._remove(self._lobby.check(now))
        session_id = secrets.token_urlsafe(18)
        if self.store is not None:
            self.store.claim(session_id)
        return self._admit(self._new(session_id, config))

    def _reenter(self, session: Session, config: SessionConfig) -> None:
        live = session.live
        live.leave(self._clock())
        live.events.clear()
        session.outbox.clear()
        live.configure(config)
        session.outbox.put(live.items())

    def _from_store(self, config: SessionConfig, session_id: str, now: float) -> Session:
        if self.store is None:
            raise SessionNotFound(f"no session {session_id[:40]!r} to resume; it has ended: start a new one")
        self._remove(self._lobby.check(now))
        saved = self.store.take(session_id)
        live = self._new(session_id, config)
        live.talking.replies = restore(saved, live.memory, self._fingerprint)
        session = self._admit(live)
        session.outbox.put(live.items())
        return session

    def _new(self, session_id: str, config: SessionConfig) -> Live:
        memory = Memory(self._layout, self.device)
        voice, habits = self._silero.initial_state(1), Habits(self.config.lead_s, self.config.lean)
        return Live(session_id, config, self.device, memory, voice, self._knows_tools, habits)

    def _admit(self, live: Live) -> Session:
        session = Session(live, Outbox(live.valve, self._clock), self._push)
        live.outbox = session.outbox
        self._lobby.add(live.id, session)
        self.loop.submit(lambda: self.loop.lives.append(live))
        return session

    def _remove(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            self.loop.submit(lambda live=session.live: self.loop.forget(live))  # type: ignore[misc]
            session.outbox.close()
            if self.store is not None:
                self.store.forgo(session.live.id)

    def _push(self, live: Live, command: Command) -> None:
        live.pushed_commands += 1
        if isinstance(command, Append):
            live.pushed_samples += len(command.waveform)
        self.loop.submit(lambda: live.commands.append(command))

    def _keep(self, live: Live) -> None:
        live.changed = False
        if self.store is not None and self._writer is not None:
            saved = snapshot(live.id, live.memory, live.talking.replies, self._fingerprint)
            self._writer.submit(_write, self.store, saved)


def _write(store: SessionStore, saved: Snapshot) -> None:
    try:
        store.save(saved.session_id, saved.stored())
    except OSError as error:
        logger.warning("a session could not be stored: %s", error)


def _fingerprint(dialogue: Dialogue) -> str:
    """Of the weights that make vectors: stored ones mean something to the same weights only."""
    digest = hashlib.sha256()
    modules: Collection[torch.nn.Module] = [dialogue.model.encoder, dialogue.model.llm.embedding]
    for module in modules:
        for name, weight in module.state_dict().items():
            digest.update(f"{name}{tuple(weight.shape)}{float(weight.float().sum()):.4e}".encode())
    return digest.hexdigest()
