"""The second half of a step, LLaMA-Omni's way: LLM states to units to sound. Knows nothing of listening or of turns.

Every new state becomes units at once; when at least Omega wait they are spoken as one chunk, and what is left after
the last token is spoken however little it is (arXiv:2409.06666v2, algorithm 1).
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from icebreaker.dialogue.parts import OmniParts
from icebreaker.dialogue.state import DialogueState, Manner, Reply, Row, UnitReply, with_row
from icebreaker.models.ctc_collapse import initial_collapse
from icebreaker.models.unit_ctc import UnitCTCState
from icebreaker.models.unit_wave import UnitWaveOut
from icebreaker.text.heard import SpokenSegment
from icebreaker.text.segment import Segment, SegmenterState

__all__ = ["UnitSpeaker"]


class UnitSpeaker:
    """Speaks for the rows of a dialogue that have something to say."""

    def __init__(self, parts: OmniParts) -> None:
        self.parts = parts
        self.omega = parts.settings.unit_out.omega
        self.wave_out = UnitWaveOut(parts.vocoder, parts.settings.unit_out.rule)
        self.reads_last = parts.unit_ctc.config.states == "reading"

    @property
    def sample_rate(self) -> int:
        """Of the answers, in Hz."""
        return self.parts.vocoder.config.sample_rate

    def initial_speech(self, batch: int) -> UnitCTCState:
        """An empty cache for a batch."""
        return self.parts.unit_ctc.initial_state(batch)

    def initial_wave(self, batch: int) -> None:
        """A reply carries its own."""

    def begin(self, index: int, base: int, state: DialogueState) -> tuple[Reply, DialogueState]:
        """A reply of no token yet, and its row of the cache emptied."""
        speech = _speech(state)
        length = speech.cache.length.clone()
        length[index] = 0
        newest = speech.collapse.newest.clone()
        newest[index] = initial_collapse(1).newest[0]
        speech = UnitCTCState(speech.cache._replace(length=length), speech.collapse._replace(newest=newest))
        units = UnitReply(self.wave_out.initial_state()) if state.rows[index].manner.spoken else None
        return Reply(base, SegmenterState(), units=units), state._replace(speech=speech)

    def wrote(self, reply: Reply, manner: Manner) -> Reply:
        """One token more was written. Units come of states, so all that is written is spoken, or nothing."""
        if reply.units is None:
            return reply
        return replace(reply, units=replace(reply.units, ends=(*reply.units.ends, len(reply.text))))

    def finished(self, reply: Reply, manner: Manner) -> Reply:
        """The text is complete."""
        return reply

    def prefill(self, state: DialogueState, rows: Collection[int] | None = None) -> DialogueState:
        """Nothing to prepare: a cache goes on where it stands."""
        return state

    def draw(
        self, state: DialogueState, rows: Collection[int] | None = None, seconds: Mapping[int, float] | None = None
    ) -> tuple[dict[int, list[int]], DialogueState]:
        """Make units of the new states, and hand out those of each row (of ``rows``) that are due to be spoken.

        ``seconds`` of sound do not matter here: a token's units are made as soon as there is its state.
        """
        speaking = {
            i: row.reply.units
            for i, row in enumerate(state.rows)
            if row.reply and row.reply.units and not row.reply.units.ended and (rows is None or i in rows)
        }
        fresh = {i: states for i, units in speaking.items() if (states := self._fresh(state.rows[i].reply, units))}
        found, state = self._decode(fresh, state)
        drawn = {}
        for i, units in speaking.items():
            new = found.get(i, ())
            counts = (*units.counts, *([len(new)] if i in fresh else []))
            units = replace(
                units, states=units.states + len(fresh.get(i, ())), pending=(*units.pending, *new), counts=counts
            )
            if _is_last(state.rows[i]) or (self.omega and len(units.pending) >= self.omega):
                drawn[i] = list(units.pending)
                units = replace(units, pending=())
            state = _with_reply(state, i, units=units)
        return drawn, state

    def render(self, drawn: Mapping[int, list[int]], state: DialogueState) -> tuple[list[Tensor], DialogueState]:
        """Speak the chunks just handed out: [S] of new audio for each row."""
        audio = [self.parts.vocoder.embedding.weight.new_zeros(0)] * len(state.rows)
        for i, chunk in drawn.items():
            reply, last = state.rows[i].reply, _is_last(state.rows[i])
            assert reply is not None
            assert reply.units is not None
            audio[i], wave = self.wave_out.push(chunk, reply.units.wave, last=last)
            samples = reply.samples + len(audio[i])
            tokens = min(reply.units.states, len(reply.tokens))
            span = _span(reply, tokens, samples + self.wave_out.held_samples(wave))
            units = replace(reply.units, wave=wave, tokens=tokens, ended=last)
            packets = reply.packets + int(len(audio[i]) > 0)
            state = _with_reply(state, i, units=units, samples=samples, packets=packets, spoken=(*reply.spoken, span))
        return audio, state

    def spans(self, reply: Reply, *, words: bool = False) -> tuple[SpokenSegment, ...]:
        """Where each chunk's audio lies; the end of the newest is rather too late, while sound is held back.

        Chunks are short: ``words`` changes nothing.
        """
        return reply.spoken

    def _fresh(self, reply: Reply | None, units: UnitReply) -> tuple[Tensor, ...]:
        """States [D] that are not units yet."""
        return () if reply is None else reply.hidden[units.states + self.reads_last :]

    def _decode(
        self, fresh: Mapping[int, tuple[Tensor, ...]], state: DialogueState
    ) -> tuple[dict[int, tuple[int, ...]], DialogueState]:
        """New units of each row that has new states."""
        if not fresh:
            return {}, state
        speech, some = _speech(state), next(iter(fresh.values()))[0]
        lengths = torch.zeros_like(speech.cache.length)
        states = some.new_zeros(len(lengths), max(map(len, fresh.values())), len(some))
        for i, new in fresh.items():
            states[i, : len(new)] = torch.stack(new)
            lengths[i] = len(new)
        found, speech = self.parts.unit_ctc.units(states, lengths, speech)
        return {i: found[i] for i in fresh}, state._replace(speech=speech)


def _is_last(row: Row) -> bool:
    """Whether no state of the reply is still to come."""
    return row.reply is not None and row.reply.text_done and row.pending is None


def _span(reply: Reply, tokens: int, stop: int) -> SpokenSegment:
    """The text from the last chunk's end to its first ``tokens`` tokens, and its place in the sound."""
    assert reply.units is not None
    start, ends = reply.units.tokens, reply.units.ends
    first = ends[start - 1] if start else 0
    text = reply.text[first : ends[tokens - 1]] if tokens else ""
    segment = Segment(text, start, tuple(end - first for end in ends[start:tokens]))
    begin = reply.spoken[-1].stop_sample if reply.spoken else 0
    return SpokenSegment(segment, begin, max(begin, stop))


def _speech(state: DialogueState) -> UnitCTCState:
    assert isinstance(state.speech, UnitCTCState)
    return state.speech


def _with_reply(state: DialogueState, index: int, **changes: object) -> DialogueState:
    reply = state.rows[index].reply
    assert reply is not None
    return with_row(state, index, reply=replace(reply, **changes))  # type: ignore[arg-type]
