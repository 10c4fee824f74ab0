"""Who is asked: a model in this process, or a Realtime server. Knows nothing of what is asked or scored."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from icebreaker.client.asking import ask_aloud, ask_in_writing, transcript_of
from icebreaker.client.remote import RemoteEngine
from icebreaker.dialogue import Dialogue
from icebreaker.dialogue.parts import OmniParts
from icebreaker.engine.messages import SessionConfig
from icebreaker.errors import ConfigError, ServerError
from icebreaker.evaluation.respond import answer_aloud, answer_in_writing
from icebreaker.talking import Answer

__all__ = ["LocalModel", "Server", "System"]

Waveform = NDArray[np.float32]
T = TypeVar("T")
WAITS_S = (0.5, 2.0, 5.0)  # before a question is asked again of a server that went away


class System(Protocol):
    """Something that is asked and answers."""

    @property
    def sample_rate(self) -> int:
        """Of its voice, in Hz."""

    def write(self, question: str, *, seed: int = 0) -> str:
        """Text in, text out."""

    def answer(self, waveform: Waveform, *, seed: int = 0, use_turn_head: bool = False) -> Answer:
        """Speech [S] at 16 kHz in, text and speech out, with a clock. It is the turn, or the system ends it."""


@dataclass(frozen=True)
class LocalModel:
    """A dialogue in this process."""

    dialogue: Dialogue

    @property
    def sample_rate(self) -> int:
        """See ``System``."""
        return self.dialogue.sample_rate

    def write(self, question: str, *, seed: int = 0) -> str:
        """See ``System``."""
        return answer_in_writing(self.dialogue, question, seed=seed)

    def answer(self, waveform: Waveform, *, seed: int = 0, use_turn_head: bool = False) -> Answer:
        """See ``System``."""
        return answer_aloud(self.dialogue, waveform, seed=seed, use_turn_head=use_turn_head)

    def with_omega(self, omega: float) -> "LocalModel":
        """The same model, speaking in chunks of at least ``omega`` units (``inf`` or 0: the whole reply at once).

        Raises:
            ConfigError: it does not speak in units, or cannot wait for so many.
        """
        parts = self.dialogue.model
        if not isinstance(parts, OmniParts):
            raise ConfigError("this model does not speak in units; leave --omega out, or give a LLaMA-Omni model")
        if not (omega == inf or (omega >= 0 and omega == int(omega))):
            raise ConfigError(f"expected --omega to be a whole number of units or inf, got {omega:g}")
        unit_out = replace(parts.settings.unit_out, omega=0 if omega == inf else int(omega))
        return LocalModel(Dialogue(replace(parts, settings=replace(parts.settings, unit_out=unit_out))))


@dataclass(frozen=True)
class Server:
    """A Realtime server; every question is a conversation of its own, asked again if the server went away meanwhile.

    Attributes:
        engine: how it is reached.
        paced: whether speech is sent as fast as it is spoken, so that no backlog counts as thinking. Latency needs it.
        patience_s: for one reply.
        waits_s: pauses before each further try.
    """

    engine: RemoteEngine
    paced: bool = False
    patience_s: float = 120.0
    waits_s: tuple[float, ...] = WAITS_S

    @property
    def sample_rate(self) -> int:
        """See ``System``."""
        return self.engine.sample_rate

    def write(self, question: str, *, seed: int = 0) -> str:
        """See ``System``."""
        config = SessionConfig(turns="client", output="text", seed=seed)
        return self._tried(lambda: ask_in_writing(self.engine, config, question, self.patience_s)).text

    def say(self, question: str, *, seed: int = 0) -> Answer:
        """Text in, speech out."""
        config = SessionConfig(turns="client", seed=seed)
        return self._tried(lambda: ask_in_writing(self.engine, config, question, self.patience_s))

    def answer(self, waveform: Waveform, *, seed: int = 0, use_turn_head: bool = False) -> Answer:
        """See ``System``."""
        config = SessionConfig(turns="model" if use_turn_head else "client", seed=seed)
        return self._tried(
            lambda: ask_aloud(self.engine, config, waveform, paced=self.paced, patience_s=self.patience_s)
        )

    def transcribe(self, waveform: Waveform) -> str:
        """The input transcript of ``waveform`` [S] at 16 kHz."""
        return self._tried(lambda: transcript_of(self.engine, waveform, self.patience_s))

    def _tried(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        for wait_s in self.waits_s:
            try:
                return asyncio.run(ask())
            except ServerError:
                time.sleep(wait_s)
        return asyncio.run(ask())
