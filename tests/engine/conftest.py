"""A tiny engine whose loop and clock the tests turn themselves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from tiny_llm import tiny_llm
from tiny_parts import tiny_parts

from icebreaker.audio.pcm import load_audio
from icebreaker.dialogue import Dialogue, DialogueSettings, Parts
from icebreaker.engine.engine import Engine, EngineConfig
from icebreaker.engine.messages import Command, SessionConfig, SessionEvent
from icebreaker.engine.session import Session
from icebreaker.engine.store import SessionStore
from icebreaker.models.sampling import SamplingConfig
from icebreaker.text.segment import SegmenterConfig

QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"
E = TypeVar("E")


class Room:
    """An engine without its thread: ``run`` turns the loop, and time goes on by ``dt`` in every tick."""

    def __init__(self, parts: Parts, config: EngineConfig, store: SessionStore | None = None) -> None:
        self.now, self.dt = 100.0, 0.01
        self.engine = Engine(Dialogue(parts), config, name="tiny", store=store, clock=lambda: self.now)

    def enter(self, config: SessionConfig, resume: str | None = None) -> Session:
        return self.engine.enter(config, resume)

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.engine.loop.tick()
            self.now += self.dt

    def until(self, session: Session, kind: type[E], ticks: int = 3000) -> list[SessionEvent]:
        """Events of a session up to the first of a kind."""
        events: list[SessionEvent] = []
        for _ in range(ticks):
            events += session.outbox.take()
            if any(isinstance(event, kind) for event in events):
                return events
            self.tick()
        raise AssertionError(f"no {kind.__name__} in {events}")

    def do(self, session: Session, *commands: Command) -> list[SessionEvent]:
        """What a session says to commands within one tick."""
        for command in commands:
            session.push(command)
        self.tick()
        return session.outbox.take()


@pytest.fixture(scope="session")
def parts() -> Parts:
    settings = DialogueSettings(
        system="You are kind.", text=SamplingConfig(temperature=1.2, top_k=40), max_text_tokens=24, max_codes=12,
        segmenter=SegmenterConfig(max_tokens=8), transcribe=False,
    )  # fmt: skip
    return tiny_parts(tiny_llm("qwen2", seed=3), settings)


@pytest.fixture
def room(parts: Parts) -> Room:
    return Room(parts, EngineConfig(max_sessions=8, slots=3, capacity=512))


@pytest.fixture
def make_room(parts: Parts) -> Callable[..., Room]:
    def make(
        store: SessionStore | None = None,
        max_text_tokens: int | None = None,
        alignment_layers: tuple[int, ...] = (),
        context_positions: int = 0,
        of: Parts = parts,
        **options: float,
    ) -> Room:
        settings = replace(
            of.settings, max_text_tokens=max_text_tokens or of.settings.max_text_tokens,
            alignment_layers=alignment_layers, context_positions=context_positions,
        )  # fmt: skip
        sizes = {"max_sessions": 8, "slots": 3, "capacity": 512, **options}
        return Room(replace(of, settings=settings), EngineConfig(**sizes), store)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def question() -> np.ndarray:
    """[S] "What is two plus three?" at 16 kHz, with silence around it."""
    return np.concatenate([np.zeros(8000, np.float32), load_audio(QUESTION, 16000), np.zeros(32000, np.float32)])
