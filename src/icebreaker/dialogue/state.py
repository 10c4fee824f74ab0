"""Where conversations stand. Tensors batch first, and one small record a row; nothing of it lives in a module."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from icebreaker.audio.fbank import FbankState
from icebreaker.duplex import Turn
from icebreaker.models.adapter import AdapterState
from icebreaker.models.codec_lm import CodecLMState
from icebreaker.models.codec_stream import CodecStreamState, OfficialWaveState
from icebreaker.models.ctc_search import Beam
from icebreaker.models.encoder import EncoderState
from icebreaker.models.kv_cache import KVCache
from icebreaker.models.sampling import SamplingConfig
from icebreaker.models.speech_adaptor import SpeechAdaptorState
from icebreaker.models.unit_ctc import UnitCTCState
from icebreaker.models.unit_wave import UnitWaveState
from icebreaker.text.heard import SpokenSegment
from icebreaker.text.segment import Segment, SegmenterState

__all__ = [
    "DialogueState",
    "Manner",
    "Reply",
    "Row",
    "Speaking",
    "UnitReply",
    "Utterance",
    "truncate",
    "with_heard",
    "with_row",
    "with_utterance_fed",
]


@dataclass(frozen=True)
class Utterance:
    """What the user is saying.

    Attributes:
        start: length of the conversation's cache before it.
        embeddings: adapter outputs [n, D] so far, for a transcript and for a later replay.
        vectors: the same before an adapter's lookup, for the second pass; none where there is no lookup.
        pending: LLM inputs [L, D] not fed yet.
        beams: where the second pass stood after the newest of them, now the last.
        chunks: listening chunks heard.
        waveform: [n] at 16 kHz, for ears that hear a turn when it is over.
    """

    start: int
    embeddings: tuple[Tensor, ...] = ()
    vectors: tuple[Tensor, ...] = ()
    beams: tuple[Beam, ...] = (Beam(),)
    pending: Tensor | None = None
    chunks: int = 0
    waveform: Tensor | None = None


@dataclass(frozen=True)
class Speaking:
    """The segment that is being spoken.

    Attributes:
        segment: its text and tokens.
        history: codes drawn so far.
        last: the code to feed next.
        start_sample: where its audio begins in the reply.
        wave: carry of the official wave-out; ``None`` with the exact one.
        ended: eos was drawn, or the limit reached.
        left_out: samples at its beginning that are still to be left out.
    """

    segment: Segment
    last: int
    start_sample: int
    history: tuple[int, ...] = ()
    wave: OfficialWaveState | None = None
    ended: bool = False
    left_out: int = 0


@dataclass(frozen=True)
class UnitReply:
    """How far the units of a reply are (LLaMA-Omni).

    Attributes:
        wave: what the chunks spoken so far left.
        states: LLM states that became units.
        pending: units that wait to be spoken.
        ends: letters of the reply's text that stand after each token.
        tokens: of the reply whose units were spoken.
        counts: units that each state gave.
        ended: the last chunk was spoken.
    """

    wave: UnitWaveState
    states: int = 0
    pending: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    tokens: int = 0
    counts: tuple[int, ...] = ()
    ended: bool = False


@dataclass(frozen=True)
class Reply:
    """What the assistant is saying.

    Attributes:
        base: length of the conversation's cache when the first token is fed.
        tokens: drawn so far; all but the newest are in the cache.
        hidden: the hidden state [D] that predicted each token, at the end also the one that predicted the end.
        text: the tokens, decoded.
        segmenter: where the text stands.
        queue: segments that wait for the speech decoder.
        speaking: the one it is busy with.
        spoken: segments whose audio is complete.
        codes: of each of them.
        samples: of audio given out.
        packets: of audio given out.
        text_done: the text is complete.
        units: how far its units are; ``None`` where the speech decoder speaks segments.
    """

    base: int
    segmenter: SegmenterState
    tokens: tuple[int, ...] = ()
    hidden: tuple[Tensor, ...] = ()
    text: str = ""
    queue: tuple[Segment, ...] = ()
    speaking: Speaking | None = None
    spoken: tuple[SpokenSegment, ...] = ()
    codes: tuple[tuple[int, ...], ...] = ()
    samples: int = 0
    packets: int = 0
    text_done: bool = False
    units: UnitReply | None = None

    @property
    def done(self) -> bool:
        """Nothing is left to say."""
        silent = not self.queue and self.speaking is None if self.units is None else self.units.ended
        return self.text_done and silent


@dataclass(frozen=True)
class Manner:
    """How one conversation's replies differ from the settings of all; None: they do not.

    Attributes:
        text: how text tokens are drawn.
        max_text_tokens: longest reply.
        aloud: of the reply's text so far, what is meant for the ear (not a function call, say); it may only grow.
        spoken: whether the reply is spoken at all.
    """

    text: SamplingConfig | None = None
    max_text_tokens: int | None = None
    aloud: Callable[[str], str] | None = None
    spoken: bool = True


@dataclass(frozen=True)
class Row:
    """One conversation.

    Attributes:
        turn: who is speaking.
        generator: all its draws come from here, so it never depends on its neighbours.
        voice: where codes are to be drawn from instead, so that they do not depend on how far ahead the text is either.
        pending: LLM inputs [L, D] of the conversation that are not fed yet (system prompt, suffix, newest token).
        answered: whether the conversation holds an answer, so that the next user prefix has to close it.
        carry: tokens of the last reply that were heard and are not in the cache.
        utterance: what the user is saying.
        reply: what the assistant is saying, or has said and may still be playing.
        history: newest log-mel frames [n, F], or samples [n], for the pre-roll.
        manner: of its replies.
    """

    turn: Turn = Turn.LISTENING
    generator: torch.Generator = field(default_factory=torch.Generator)
    pending: Tensor | None = None
    answered: bool = False
    carry: tuple[int, ...] = ()
    utterance: Utterance | None = None
    reply: Reply | None = None
    history: Tensor | None = None
    manner: Manner = field(default_factory=Manner)
    voice: torch.Generator | None = None

    @property
    def for_context(self) -> Tensor | None:
        """What the conversation's own cache is to be fed next, [L, D]."""
        pieces = [self.pending]
        if self.turn is Turn.HEARING and self.utterance is not None:
            pieces.append(self.utterance.pending)
        there = [piece for piece in pieces if piece is not None]
        return torch.cat(there) if there else None

    @property
    def for_branch(self) -> Tensor | None:
        """What is to be fed aside, while the assistant speaks too, [L, D]."""
        return self.utterance.pending if self.turn is Turn.OVERLAP and self.utterance is not None else None


class DialogueState(NamedTuple):
    """A batch of conversations."""

    fbank: FbankState | None  # these three: None for ears that hear a turn when it is over
    encoder: EncoderState | None
    adapter: AdapterState | SpeechAdaptorState | None
    context: KVCache  # the conversations
    branch: KVCache | None  # what is heard while the assistant speaks; allocated when that first happens
    speech: CodecLMState | UnitCTCState
    wave: CodecStreamState | None  # of segments; a unit reply carries its own
    rows: tuple[Row, ...]


def with_row(state: DialogueState, index: int, **changes: object) -> DialogueState:
    """``state`` with some fields of row ``index`` changed."""
    rows = list(state.rows)
    rows[index] = replace(rows[index], **changes)  # type: ignore[arg-type]
    return state._replace(rows=tuple(rows))


def with_heard(state: DialogueState, index: int, heard: Tensor, vectors: tuple[Tensor, ...] = ()) -> DialogueState:
    """``state`` with one more listening chunk [n, D] in the utterance of row ``index``, if it has one.

    ``vectors``: what the lookup, if there is one, made ``heard`` of.
    """
    utterance = state.rows[index].utterance
    if utterance is None:
        return state
    pending = heard if utterance.pending is None else torch.cat([utterance.pending, heard])
    utterance = replace(
        utterance,
        embeddings=(*utterance.embeddings, heard),
        vectors=(*utterance.vectors, *vectors),
        pending=pending,
        chunks=utterance.chunks + 1,
    )
    return with_row(state, index, utterance=utterance)


def with_utterance_fed(state: DialogueState, index: int) -> DialogueState:
    """``state`` after the LLM has heard all of the utterance of row ``index``, if it has one."""
    utterance = state.rows[index].utterance
    return state if utterance is None else with_row(state, index, utterance=replace(utterance, pending=None))


def truncate(state: DialogueState, index: int, length: int) -> DialogueState:
    """``state`` with the conversation of row ``index`` cut to at most ``length`` positions."""
    lengths = state.context.length.clone()
    lengths[index] = min(int(lengths[index]), length)
    return state._replace(context=state.context._replace(length=lengths))
