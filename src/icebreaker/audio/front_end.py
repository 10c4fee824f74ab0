"""The official server's front end: features, speech detection and a short memory. Knows nothing of models or turns.

Its features keep three frames of the block before (spec of the official encoder input); our own encoder keeps that
context itself and takes plain ``Fbank`` frames.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES, HOP_LENGTH, MEL_BINS, Fbank, FbankState
from icebreaker.audio.vad import Boundary, Silero, SileroState, VadConfig, VadIterator, VadState

__all__ = ["FrontEndOutput", "FrontEndState", "OfficialFrontEnd", "Status"]

CONTEXT_FRAMES = 3  # of the previous block in front of each, for the encoder's subsampling
FRAMES = CHUNK_SAMPLES // HOP_LENGTH
HISTORY = 10  # blocks remembered outside a dialogue
RECALLED = 6  # of them given out when speech starts (0.96 s)


class Status(Enum):
    """What to do with a block; the values are the official names."""

    IDLE = ""
    START = "sl"
    CONTINUE = "cl"
    END = "el"


class FrontEndState(NamedTuple):
    """One session. The driver ends a dialogue of its own accord by ``state._replace(in_dialog=False)``."""

    fbank: FbankState
    context: Tensor  # [1, CONTEXT_FRAMES, MEL_BINS]
    silero: SileroState
    vad: VadState
    history: tuple[Tensor, ...]  # up to HISTORY blocks [1, CONTEXT_FRAMES + FRAMES, MEL_BINS], oldest first
    in_dialog: bool


@dataclass(frozen=True)
class FrontEndOutput:
    """One block."""

    status: Status
    features: Tensor  # [1, CONTEXT_FRAMES + FRAMES, MEL_BINS]
    recalled: tuple[Tensor, ...]  # at START the blocks before this one, oldest first; else empty


class OfficialFrontEnd:
    """Blocks of 160 ms to encoder input and a status, as the official server does it, quirks included.

    The memory stands still during a dialogue, so what is recalled may be from before the previous utterance. After a
    dialogue that the driver ended, no new start comes until the rule has seen its (unreported) end.
    """

    def __init__(self, silero: Silero, config: VadConfig | None = None) -> None:
        self.fbank = Fbank()
        self.silero = silero
        self.vad = VadIterator(config)

    def initial_state(self) -> FrontEndState:
        """Nothing heard; the three frames before the first are zeros in the log-mel domain (official)."""
        context = torch.zeros(1, CONTEXT_FRAMES, MEL_BINS)
        return FrontEndState(
            self.fbank.initial_state(1), context, self.silero.initial_state(1), self.vad.initial_state(), (), False
        )

    def step(self, waveform: Tensor, state: FrontEndState) -> tuple[FrontEndOutput, FrontEndState]:
        """Advance by one block [1, CHUNK_SAMPLES] of 16 kHz in [-1, 1]."""
        probabilities, silero = self.silero(waveform, state.silero)
        return self.decide(waveform, probabilities[0].tolist(), state._replace(silero=silero))

    def decide(
        self, waveform: Tensor, probabilities: Iterable[float], state: FrontEndState
    ) -> tuple[FrontEndOutput, FrontEndState]:
        """``step`` for given speech probabilities of the block's windows."""
        if waveform.shape != (1, CHUNK_SAMPLES):
            raise ValueError(f"expected a block [1, {CHUNK_SAMPLES}], got {list(waveform.shape)}; collect whole blocks")
        frames, fbank = self.fbank(waveform, state.fbank)
        features = torch.cat([state.context, frames], dim=1)
        boundary, vad = self._boundary(probabilities, state.vad)
        state = state._replace(fbank=fbank, context=features[:, -CONTEXT_FRAMES:].clone(), vad=vad)
        if state.in_dialog:
            if boundary is Boundary.END:
                return FrontEndOutput(Status.END, features, ()), self._after_end(state)
            return FrontEndOutput(Status.CONTINUE, features, ()), state
        if boundary is Boundary.START:
            return FrontEndOutput(Status.START, features, state.history[-RECALLED:]), state._replace(in_dialog=True)
        history = (*state.history, features)[-HISTORY:]
        return FrontEndOutput(Status.IDLE, features, ()), state._replace(history=history)

    def _boundary(self, probabilities: Iterable[float], state: VadState) -> tuple[Boundary | None, VadState]:
        """The last boundary within a block wins."""
        boundary = None
        for probability in probabilities:
            event, state = self.vad.step(probability, state)
            boundary = boundary if event is None else event.boundary
        return boundary, state

    def _after_end(self, state: FrontEndState) -> FrontEndState:
        silero, vad = self.silero.initial_state(1), self.vad.initial_state()
        return state._replace(silero=silero, vad=vad, in_dialog=False)
