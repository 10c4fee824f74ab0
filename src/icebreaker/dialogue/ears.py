"""The first half of a step: sound to LLM inputs. Knows nothing of turns, of the LLM or of speaking.

Two kinds of ears. Streaming ones (Freeze-Omni's, or any encoder of ours) hear 160 ms at a time, so nothing is left to
do when the turn ends. Whole ones (Whisper's) keep the sound and hear a turn when it is over.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES, HOP_LENGTH, SAMPLE_RATE, Fbank, FbankState
from icebreaker.audio.whisper_mel import MAX_SAMPLES, WhisperMel
from icebreaker.dialogue.parts import OmniParts, Parts
from icebreaker.dialogue.state import DialogueState, Utterance, with_heard, with_row
from icebreaker.models.adapter import Adapter, AdapterState
from icebreaker.models.encoder import Encoder, EncoderState
from icebreaker.models.speech_adaptor import SpeechAdaptor, SpeechAdaptorState
from icebreaker.models.whisper_encoder import WhisperEncoder
from icebreaker.nn.subsampling import CONTEXT_FRAMES, RATE
from icebreaker.streaming import put_row, put_rows, take_rows

__all__ = ["CHUNK_FRAMES", "Ears", "EarsState", "StreamingEars", "WholeEars", "ears_of"]

CHUNK_FRAMES = CHUNK_SAMPLES // HOP_LENGTH  # feature frames in a listening step
CHUNK_OUTPUT = CHUNK_FRAMES // RATE  # encoder frames of it
EarsState = tuple[FbankState | None, EncoderState | None, AdapterState | SpeechAdaptorState | None]


class StreamingEars:
    """Hears 160 ms at a time."""

    def __init__(self, fbank: Fbank, encoder: Encoder, adapter: Adapter | SpeechAdaptor, preroll_chunks: int) -> None:
        self.fbank, self.encoder, self.adapter, self.lookup = fbank, encoder, adapter, adapter.lookup
        self.preroll_chunks = preroll_chunks

    def positions(self, seconds: float) -> int:
        """LLM positions that a turn of ``seconds`` takes at most."""
        chunks = math.ceil(seconds * SAMPLE_RATE / CHUNK_SAMPLES)
        return chunks * math.ceil(CHUNK_OUTPUT / self.adapter.stride)

    def initial_state(self, batch: int) -> EarsState:
        """Nothing heard: the states of features, encoder and adapter."""
        return self.fbank.initial_state(batch), self.encoder.initial_state(batch), self.adapter.initial_state(batch)

    def hear(self, waveform: Tensor, active: Sequence[bool], state: DialogueState) -> DialogueState:
        """Encode 160 ms of the ``active`` rows of [B, S]; where nobody listens only features are kept."""
        rows = torch.tensor([i for i, a in enumerate(active) if a], device=waveform.device)
        assert state.fbank is not None
        fbank, fbank_state = self.fbank(waveform[rows], take_rows(state.fbank, rows))
        state = state._replace(fbank=put_rows(state.fbank, rows, fbank_state))
        frames = dict(zip(rows.tolist(), fbank, strict=True))  # [16, F] each
        listening = [i for i in frames if state.rows[i].utterance is not None]
        if listening:
            state = self._encode(listening, torch.stack([frames[i] for i in listening]), state)
        if self.preroll_chunks:
            for i, new in frames.items():
                state = _remember(state, i, new, self.preroll_chunks * CHUNK_FRAMES + CONTEXT_FRAMES)
        return state

    def _encode(self, listening: Sequence[int], fbank: Tensor, state: DialogueState) -> DialogueState:
        """Advance some rows by a chunk of features [n, 16, F]."""
        rows = torch.tensor(listening, device=fbank.device)
        assert state.encoder is not None
        assert state.adapter is not None
        frames, encoder = self.encoder(fbank, take_rows(state.encoder, rows))
        vectors, heard, adapter = self._adapt(frames, take_rows(state.adapter, rows))
        state = state._replace(
            encoder=put_rows(state.encoder, rows, encoder), adapter=put_rows(state.adapter, rows, adapter)
        )
        for i, new, before in zip(listening, heard, vectors, strict=True):
            state = with_heard(state, i, new, () if self.lookup is None else (before,))
        return state

    def _adapt(
        self, frames: Tensor, state: AdapterState | SpeechAdaptorState
    ) -> tuple[Tensor, Tensor, AdapterState | SpeechAdaptorState]:
        """The adapter's vectors [B, n, D], what the LLM hears of them, and the next state."""
        after: AdapterState | SpeechAdaptorState
        vectors, after = self.adapter.project_frames(frames, state)  # type: ignore[arg-type]  # its own kind
        return vectors, vectors if self.lookup is None else self.lookup(vectors), after

    def open(self, index: int, utterance: Utterance, state: DialogueState) -> DialogueState:
        """Begin ``utterance``, whose ``pending`` opens it, with what the pre-roll holds."""
        encoder, adapter = self.encoder.initial_state(1), self.adapter.initial_state(1)
        history = state.rows[index].history
        if history is not None and (count := min(self.preroll_chunks, len(history) // CHUNK_FRAMES)):
            frames = count * CHUNK_FRAMES
            context = history[max(0, len(history) - frames - CONTEXT_FRAMES) : len(history) - frames]
            if len(context) == CONTEXT_FRAMES:
                encoder = encoder._replace(features=context[None])
            encoded, encoder = self.encoder(history[None, -frames:], encoder)
            vectors, heard, adapter = self._adapt(encoded, adapter)
            assert utterance.pending is not None
            utterance = replace(
                utterance,
                embeddings=(heard[0],),
                vectors=() if self.lookup is None else (vectors[0],),
                pending=torch.cat([utterance.pending, heard[0]]),
            )
        state = state._replace(
            encoder=put_row(state.encoder, index, encoder), adapter=put_row(state.adapter, index, adapter)
        )
        return with_row(state, index, utterance=utterance)

    def rest(self, utterance: Utterance) -> tuple[Tensor, ...]:
        """What the LLM has to hear beyond ``utterance.embeddings`` when the turn ends: nothing."""
        return ()


class WholeEars:
    """Keeps the sound of a turn, and hears it when it is over."""

    def __init__(
        self,
        mel: WhisperMel,
        encoder: WhisperEncoder,
        adaptor: SpeechAdaptor,
        preroll_chunks: int,
        long_speech: Literal["windows", "cut"],
    ) -> None:
        self.mel, self.encoder, self.adaptor = mel, encoder, adaptor
        self.preroll_chunks, self.long_speech = preroll_chunks, long_speech

    def positions(self, seconds: float) -> int:
        """LLM positions that a turn of ``seconds`` takes at most: as many for every 30 s begun."""
        windows = 1 if self.long_speech == "cut" else math.ceil(max(seconds, 1) * SAMPLE_RATE / MAX_SAMPLES)
        return windows * (self.encoder.config.frames // self.adaptor.config.stride)

    def initial_state(self, batch: int) -> EarsState:
        """There is no state but the sound, which an utterance keeps."""
        return None, None, None

    def hear(self, waveform: Tensor, active: Sequence[bool], state: DialogueState) -> DialogueState:
        """Keep 160 ms of the ``active`` rows [B, S]."""
        for i, (is_active, row) in enumerate(zip(active, state.rows, strict=True)):
            if is_active and (utterance := row.utterance) is not None:
                before = () if utterance.waveform is None else (utterance.waveform,)
                utterance = replace(utterance, waveform=torch.cat([*before, waveform[i]]), chunks=utterance.chunks + 1)
                state = with_row(state, i, utterance=utterance)
            if is_active and self.preroll_chunks:
                state = _remember(state, i, waveform[i], self.preroll_chunks * CHUNK_SAMPLES)
        return state

    def open(self, index: int, utterance: Utterance, state: DialogueState) -> DialogueState:
        """Begin ``utterance`` with what the pre-roll holds."""
        return with_row(state, index, utterance=replace(utterance, waveform=state.rows[index].history))

    def rest(self, utterance: Utterance) -> tuple[Tensor, ...]:
        """The whole turn, [n, D_llm] for every 30 s of it."""
        if utterance.waveform is None:
            return ()
        pieces = utterance.waveform.split(MAX_SAMPLES)
        if self.long_speech == "cut":
            pieces = pieces[:1]
        return tuple(self.adaptor.whole(self.encoder(self.mel(piece[None])))[0] for piece in pieces)


Ears = StreamingEars | WholeEars


def ears_of(parts: Parts | OmniParts) -> Ears:
    """The kind of ears that go with ``parts``."""
    preroll = parts.settings.preroll_chunks
    if isinstance(parts, Parts):
        return StreamingEars(parts.fbank, parts.encoder, parts.adapter, preroll)
    if isinstance(parts.encoder, WhisperEncoder):
        assert isinstance(parts.features, WhisperMel)
        return WholeEars(parts.features, parts.encoder, parts.adaptor, preroll, parts.settings.long_speech)
    assert isinstance(parts.features, Fbank)
    return StreamingEars(parts.features, parts.encoder, parts.adaptor, preroll)


def _remember(state: DialogueState, index: int, new: Tensor, keep: int) -> DialogueState:
    history = state.rows[index].history
    so_far = new if history is None else torch.cat([history, new])
    return with_row(state, index, history=so_far[-keep:])
