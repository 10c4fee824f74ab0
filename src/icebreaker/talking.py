"""Ask a file or a microphone's owner, answer in sound: one conversation over a dialogue, with a clock.

Knows nothing of the command line. The parts of the latency follow the paper's figure (arXiv:2411.00774, latency).
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES, SAMPLE_RATE
from icebreaker.audio.microphone import Microphone, Speaker
from icebreaker.audio.pcm import save_wav, stream_audio
from icebreaker.audio.vad import Boundary, Silero, VadIterator
from icebreaker.checkpoints.find import load_parts
from icebreaker.dialogue import Dialogue, DialogueState
from icebreaker.dialogue.parts import OmniParts, Parts
from icebreaker.duplex import Committed, DuplexConfig, Event, ReplyFinished, SpeechStarted, SpeechStopped, Turn
from icebreaker.errors import AudioError, ConfigError
from icebreaker.models.whisper_encoder import WhisperEncoder
from icebreaker.nn.packed import pack_linears

__all__ = ["Answer", "answer_file", "answer_turn", "load_dialogue", "pack_large", "talk_by_microphone"]

REPLY_POSITIONS = 700  # room for prompts, suffix and the longest reply
MAX_QUESTION_S = 120.0  # of one turn
MICROPHONE_CAPACITY = 8000  # LLM positions of a conversation, about ten minutes
PACK_FROM = 20_000_000  # weights of a module; a smaller one stays in the cache and gains nothing


@dataclass
class Answer:
    """One spoken answer.

    Attributes:
        heard: transcript of the question by the alignment stage's prompt; empty where the model has none.
        text: the answer.
        waveform: float32 [S] at ``sample_rate``.
        sample_rate: Hz.
        question_s: seconds of the question that were heard.
        listening_ms: time spent on listening to it, all chunks together.
        latency_ms: from the end of the turn to each part.
        lagging_words: of the text were written when the first sound was ready.
        text_ms: from the end of the turn to the whole text.
        total_ms: from the end of the turn to the last sample.
        ended_by: ``"turn head"`` or ``"end of file"``.
    """

    sample_rate: int
    heard: str = ""
    text: str = ""
    waveform: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    question_s: float = 0.0
    listening_ms: float = 0.0
    latency_ms: dict[str, float] = field(default_factory=dict)
    lagging_words: int = 0
    text_ms: float = 0.0
    total_ms: float = 0.0
    ended_by: str = "end of file"

    @property
    def real_time_factor(self) -> float:
        """Time to speak over time spoken; below 1 there is no gap in playback."""
        seconds = len(self.waveform) / self.sample_rate
        return self.total_ms / 1000 / seconds if seconds else 0.0

    def report(self, out: Path | None = None) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "heard": self.heard,
            "text": self.text,
            "out": None if out is None else str(out),
            "sample_rate": self.sample_rate,
            "question_s": round(self.question_s, 3),
            "answer_s": round(len(self.waveform) / self.sample_rate, 3),
            "listening_ms": round(self.listening_ms, 1),
            "latency_ms": {name: round(value, 1) for name, value in self.latency_ms.items()},
            "total_ms": round(self.total_ms, 1),
            "real_time_factor": round(self.real_time_factor, 3),
            "ended_by": self.ended_by,
        }


def load_dialogue(
    model: str,
    llm: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    system: str | None = None,
    speech_encoder: Path | None = None,
    vocoder: Path | None = None,
    omega: int | None = None,
) -> Dialogue:
    """Load ``mini``, a bundle folder or the official checkpoints folder, ready to talk.

    ``speech_encoder`` and ``vocoder`` go with official LLaMA-Omni checkpoints, ``omega`` with any LLaMA-Omni.

    Raises:
        CheckpointError: it is missing, damaged, or does not fit the LLM.
        ConfigError: there is no such device here, or the model does not speak in units and so has no ``omega``.
    """
    _check_device(device)
    parts = load_parts(
        model, llm, speech_encoder=speech_encoder, vocoder=vocoder, device=device, dtype=getattr(torch, dtype)
    )
    if omega is not None:
        if not isinstance(parts, OmniParts):
            raise ConfigError(f"{model} does not speak in units; leave omega out, or give a LLaMA-Omni model")
        unit_out = replace(parts.settings.unit_out, omega=omega)
        parts = replace(parts, settings=replace(parts.settings, unit_out=unit_out))
    if system is not None:
        parts = replace(parts, chat=parts.chat.with_system(parts.llm.tokenizer, system))
    pack_large(parts.llm)
    if isinstance(parts, Parts):
        pack_large(parts.codec_lm)
    large = sum(weight.numel() for weight in parts.encoder.parameters()) >= PACK_FROM
    streams = not isinstance(parts.encoder, WhisperEncoder)  # packing is for a few rows
    if large and streams and device == "cpu" and dtype == "float32" and torch.backends.mkldnn.is_available():
        pack_linears(parts.encoder, "float32", keep=("position",))
    return Dialogue(parts)


def pack_large(module: torch.nn.Module) -> None:
    """Halve the layers of a large float32 module on a CPU, in place, where float16 holds their weights exactly."""
    weights = list(module.parameters())
    suits = all(weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in weights)
    if suits and sum(weight.numel() for weight in weights) >= PACK_FROM:
        pack_linears(module, "exact")


def _check_device(device: str) -> None:
    """Before anything large is read."""
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {device!r} cannot be used here ({reason}); give cpu, or one this machine has"
        ) from error


def answer_file(
    dialogue: Dialogue,
    path: Path,
    *,
    seed: int = 0,
    use_turn_head: bool = False,
    say: Callable[[str], None] | None = None,
) -> Answer:
    """Listen to a recording and answer it.

    The recording counts as one turn, as in the official offline script, unless ``use_turn_head`` lets the state head
    end the turn; then what follows that moment is not heard.

    Raises:
        AudioError: the file cannot be read, or is longer than a turn can be.
    """
    chunks = list(_chunks(path))  # a file that turns out damaged or too long fails before anything is said
    if not use_turn_head:
        dialogue = dialogue.with_duplex(DuplexConfig(take_threshold=1.0, ignore_threshold=1.0))
    state = dialogue.initial_state([seed], dialogue.positions(MAX_QUESTION_S) + REPLY_POSITIONS)
    answer, _ = answer_turn(dialogue, chunks, state, say=say)
    return answer


def answer_turn(
    dialogue: Dialogue, chunks: Iterable[Tensor], state: DialogueState, *, say: Callable[[str], None] | None = None
) -> tuple[Answer, DialogueState]:
    """One turn of the only row of ``state``: hear ``chunks`` [2560], answer, and count the answer as heard."""
    answer = Answer(dialogue.sample_rate)
    _, state = dialogue.think(state)  # the system prompt is no part of anybody's latency
    started = time.perf_counter()
    utterance = None
    for chunk in chunks:
        if state.rows[0].turn is Turn.LISTENING:  # at the start, and after speech that called for no answer
            state = dialogue.signal(0, SpeechStarted(), state)
        state = dialogue.hear(chunk[None], [True], state)
        utterance = state.rows[0].utterance
        _, state = dialogue.think(state)
        answer.question_s += CHUNK_SAMPLES / SAMPLE_RATE
        if state.rows[0].turn is Turn.SPEAKING:
            answer.ended_by = "turn head"
            break
    decided = time.perf_counter()
    answer.listening_ms = (decided - started) * 1000
    state = dialogue.signal(0, Committed(), state)
    pieces: list[Tensor] = []
    for waveform, text, now in _reply(dialogue, state, answer.latency_ms, decided):
        answer.text += text
        if text:
            answer.text_ms = (time.perf_counter() - decided) * 1000
        if len(waveform) and not any(len(piece) for piece in pieces):
            answer.lagging_words = len(answer.text.split())
        pieces.append(waveform)
        state = now
        if say is not None and text:
            say(text)
    answer.total_ms = (time.perf_counter() - decided) * 1000
    answer.waveform = torch.cat(pieces).float().cpu().numpy() if pieces else answer.waveform
    answer.text = answer.text.strip()
    if utterance is not None and utterance.embeddings and dialogue.settings.transcribe:
        answer.heard = dialogue.transcribe(utterance)
    return answer, dialogue.signal(0, ReplyFinished(), state)


def _reply(
    dialogue: Dialogue, state: DialogueState, latency_ms: dict[str, float], decided: float
) -> Iterator[tuple[Tensor, str, DialogueState]]:
    """The reply, step by step: new audio, new text; the first of each kind is timed."""

    def mark(name: str, happened: bool) -> None:
        if happened and name not in latency_ms:
            latency_ms[name] = (time.perf_counter() - decided) * 1000

    told = 0
    while (reply := state.rows[0].reply) is not None and not reply.done:
        _, state = dialogue.think(state)
        reply = state.rows[0].reply
        assert reply is not None
        mark("first text", bool(reply.text))
        state = dialogue.prefill(state)
        mark("speech decoder prefilled", _is_speaking(state))
        drawn, state = dialogue.draw(state)
        mark("first codes", any(drawn.values()))
        audio, state = dialogue.render(drawn, state)
        mark("first sound", len(audio[0]) > 0)
        yield audio[0], reply.text[told:], state
        told = len(reply.text)


def _is_speaking(state: DialogueState) -> bool:
    reply = state.rows[0].reply
    return reply is not None and reply.speaking is not None


def _chunks(path: Path) -> Iterator[Tensor]:
    """A recording in pieces of 160 ms, the last one padded with silence."""
    heard = 0
    for piece in stream_audio(path, SAMPLE_RATE, CHUNK_SAMPLES):
        heard += len(piece)
        if heard > MAX_QUESTION_S * SAMPLE_RATE:
            raise AudioError(
                f"{path}: longer than {MAX_QUESTION_S:.0f} s, more than one turn of a conversation can be; "
                "cut it into questions"
            )
        yield torch.from_numpy(np.pad(piece, (0, CHUNK_SAMPLES - len(piece))))


def talk_by_microphone(
    dialogue: Dialogue, *, seed: int = 0, say: Callable[[str], None] = lambda text: None, out: Path | None = None
) -> None:
    """Talk until the microphone is closed or the user presses Ctrl-C.

    The voice detector opens an utterance, the state head ends it. While an answer plays the microphone is not
    listened to: without echo cancellation the assistant would hear itself.

    Raises:
        AudioError: there is no microphone, no speaker, or no ``sounddevice``.
    """
    state = dialogue.initial_state([seed], MICROPHONE_CAPACITY)
    _, state = dialogue.think(state)
    silero, iterator = Silero(), VadIterator()
    voice, decision = silero.initial_state(1), iterator.initial_state()
    answers: list[np.ndarray] = []
    with contextlib.ExitStack() as ending:
        ending.enter_context(contextlib.suppress(KeyboardInterrupt))
        ending.callback(_keep, answers, dialogue.sample_rate, out)  # however it ends
        microphone, speaker = ending.enter_context(Microphone()), ending.enter_context(Speaker(dialogue.sample_rate))
        for block in microphone:
            waveform = torch.as_tensor(block, dtype=torch.float32)[None]
            probabilities, voice = silero(waveform, voice)
            events: list[Event] = []
            for probability in probabilities[0].tolist():
                event, decision = iterator.step(probability, decision)
                if event is not None:
                    events.append(SpeechStarted() if event.boundary is Boundary.START else SpeechStopped())
            if _full(state):
                raise AudioError("the conversation has filled the context; start again for a new one")
            _, state = dialogue.step(waveform, [True], state, {0: events})
            if state.rows[0].turn is not Turn.SPEAKING:
                continue
            for sound, text, now in _reply(dialogue, state, {}, time.perf_counter()):
                state = now
                answers.append(sound.float().cpu().numpy())
                speaker.play(answers[-1])
                say(text)
            speaker.drain()
            say("\n")
            microphone.clear()
            state = dialogue.signal(0, ReplyFinished(), state)
            voice, decision = silero.initial_state(1), iterator.initial_state()


def _full(state: DialogueState) -> bool:
    """Whether the conversation has no room for another reply."""
    return int(state.context.length[0]) > state.context.capacity - REPLY_POSITIONS


def _keep(answers: list[np.ndarray], sample_rate: int, out: Path | None) -> None:
    if out is not None and answers:
        save_wav(out, np.concatenate(answers), sample_rate)
