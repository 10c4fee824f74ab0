"""One step of a batch of conversations. Opens no file, reads no clock, draws from each row's own generator."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES
from icebreaker.dialogue.ears import ears_of
from icebreaker.dialogue.feeding import feed
from icebreaker.dialogue.parts import OmniParts, Parts
from icebreaker.dialogue.speaking import Speaker
from icebreaker.dialogue.state import DialogueState, Reply, Row, Utterance, with_row, with_utterance_fed
from icebreaker.dialogue.turns import Turns
from icebreaker.dialogue.unit_speaking import UnitSpeaker
from icebreaker.dialogue.writing import Writer
from icebreaker.duplex import (
    ChunkHeard,
    DuplexConfig,
    Event,
    Turn,
    judge,
)
from icebreaker.errors import ConfigError
from icebreaker.models.codec_lm_few_tokens import few_codes_of
from icebreaker.models.llm_few_tokens import few_tokens_of
from icebreaker.models.turn_head import TurnHead

__all__ = ["Dialogue", "StepOutput"]


@dataclass(frozen=True)
class StepOutput:
    """What one step gave for one row.

    Attributes:
        turn: who is speaking now.
        probabilities: of the turn head (continue, take, ignore), where a chunk was heard.
        text: what the step added to the reply's text.
        waveform: [S] new audio of the reply at the codec's rate; empty where there is none.
        done: the reply is complete (its playback may not be).
    """

    turn: Turn
    probabilities: tuple[float, float, float] | None
    text: str
    waveform: Tensor
    done: bool


class Dialogue:
    """The path from speech to speech over trained parts; the state of every conversation is the caller's.

    A step listens for rows that bring audio, feeds the LLM once for rows that have anything to feed, and speaks for
    rows that have anything to say. ``hear``, ``think``, ``prefill``, ``draw`` and ``render`` are its stages, in order.
    """

    def __init__(self, parts: Parts | OmniParts) -> None:
        self.model = parts
        self.settings = parts.settings
        self.ears = ears_of(parts)
        self.speaker = Speaker(parts) if isinstance(parts, Parts) else UnitSpeaker(parts)
        self.turn_head = parts.turn_head if isinstance(parts, Parts) else None  # without one, silence ends a turn
        self.turns = Turns(parts, self.ears, self.speaker)
        self.second_pass = self.turns.second_pass
        self.writer = Writer(parts, self.speaker, self.turns.embed)
        lookup = parts.adapter.lookup if isinstance(parts, Parts) else parts.adaptor.lookup
        if lookup is not None:
            lookup.certainty = parts.settings.certainty
        if parts.llm.ticks is None and (steps := few_tokens_of(parts.llm)) is not None:
            parts.llm.ticks, parts.llm.few_logits = steps, steps.logits
        if isinstance(parts, Parts) and parts.codec_lm.ticks is None:
            parts.codec_lm.ticks = few_codes_of(parts.codec_lm)

    @property
    def sample_rate(self) -> int:
        """Of the answers, in Hz."""
        return self.speaker.sample_rate

    @property
    def parts(self) -> Parts:
        """The parts of a Freeze-Omni model; ``model`` has those of any family.

        Raises:
            ConfigError: this is another family's model.
        """
        if not isinstance(self.model, Parts):
            raise ConfigError("expected a Freeze-Omni model (turn head, codec), got a LLaMA-Omni one; give another")
        return self.model

    def with_duplex(self, duplex: DuplexConfig) -> "Dialogue":
        """The same parts, with another willingness to speak."""
        return Dialogue(replace(self.model, settings=replace(self.settings, duplex=duplex)))

    def positions(self, seconds: float) -> int:
        """LLM positions that a turn of ``seconds`` of speech takes at most, prompts apart."""
        return self.ears.positions(seconds)

    @torch.inference_mode()
    def initial_state(
        self, seeds: Sequence[int], capacity: int, before_ids: Sequence[int] | None = None
    ) -> DialogueState:
        """New conversations, one for each seed.

        Args:
            seeds: of each row's random draws.
            capacity: LLM positions that a conversation may take: ``positions`` of its turns, and one a token.
            before_ids: what opens the conversations instead of the configured system prompt.
        """
        parts, batch = self.model, len(seeds)
        opening = self.turns.embed(parts.chat.before_ids if before_ids is None else before_ids)
        device = opening.device
        rows = tuple(
            Row(generator=torch.Generator(device).manual_seed(seed), pending=opening if len(opening) else None)
            for seed in seeds
        )
        fbank, encoder, adapter = self.ears.initial_state(batch)
        return DialogueState(
            fbank=fbank,
            encoder=encoder,
            adapter=adapter,
            context=parts.llm.new_cache(batch, capacity),
            branch=None,
            speech=self.speaker.initial_speech(batch),
            wave=self.speaker.initial_wave(batch),
            rows=rows,
        )

    @torch.inference_mode()
    def step(
        self,
        waveform: Tensor,
        active: Sequence[bool],
        state: DialogueState,
        events: Mapping[int, Sequence[Event]] | None = None,
    ) -> tuple[list[StepOutput], DialogueState]:
        """Advance every row that has something to do.

        Args:
            waveform: [B, 2560] the next 160 ms of each active row, at 16 kHz in [-1, 1].
            active: [B] rows that bring audio; the others' samples are ignored.
            state: from ``initial_state`` or the previous call; use each value once.
            events: what happened to a row before this audio (speech started, committed, interrupted ...).

        Returns:
            an output per row, and the next state.
        """
        before = state
        for row, row_events in (events or {}).items():
            for event in row_events:
                state = self.signal(row, event, state)
        state = self.hear(waveform, active, state)
        probabilities, state = self.think(state)
        state = self.prefill(state)
        drawn, state = self.draw(state)
        audio, state = self.render(drawn, state)
        return [
            StepOutput(row.turn, probabilities.get(i), _new_text(old.reply, row.reply), audio[i], _is_done(row))
            for i, (old, row) in enumerate(zip(before.rows, state.rows, strict=True))
        ], state

    @torch.inference_mode()
    def signal(self, index: int, event: Event, state: DialogueState) -> DialogueState:
        """Let ``event`` happen to one row."""
        return self.turns.happen(index, event, state)

    @torch.inference_mode()
    def hear(self, waveform: Tensor, active: Sequence[bool], state: DialogueState) -> DialogueState:
        """Encode 160 ms of audio; rows in whose turn nobody listens only keep its features for the pre-roll."""
        if not any(active):
            return state
        self._check_audio(waveform, active, state)
        return self.ears.hear(waveform, active, state)

    @torch.inference_mode()
    def think(
        self, state: DialogueState, rows: Collection[int] | None = None, longest: int | None = None
    ) -> tuple[dict[int, tuple[float, float, float]], DialogueState]:
        """Feed the LLM once: chunks heard get a verdict, replies a token.

        Args:
            state: the conversations.
            rows: that may take part; None: all.
            longest: inputs of a row's own conversation to be fed at most; the rest waits. None: no limit.

        Returns:
            probabilities of the turn head by row, and the next state.
        """
        probabilities: dict[int, tuple[float, float, float]] = {}
        taking_part = [(i, row) for i, row in enumerate(state.rows) if rows is None or i in rows]
        aside = {i: fed for i, row in taking_part if (fed := row.for_branch) is not None}
        if aside and state.branch is not None:
            last, branch = feed(self.model.llm, aside, state.branch)
            state = state._replace(branch=branch)
            for i in aside:
                state = with_utterance_fed(state, i)
            for i, hidden in last.items():
                if self.turn_head is not None:
                    probabilities[i], state = self._judge(i, hidden, self.turn_head, state)
        inputs = {i: fed for i, _ in taking_part if (fed := state.rows[i].for_context) is not None}
        if not inputs:
            return probabilities, state
        last, context = feed(self.model.llm, {i: fed[:longest] for i, fed in inputs.items()}, state.context)
        state = state._replace(context=context)
        writing: dict[int, Tensor] = {}
        for i, hidden in last.items():
            if longest is not None and len(inputs[i]) > longest:
                state = with_row(with_utterance_fed(state, i), i, pending=inputs[i][longest:])
                continue
            row = state.rows[i]
            state = with_row(state, i, pending=None)
            if row.turn is Turn.HEARING and row.utterance is not None and row.utterance.pending is not None:
                state = with_utterance_fed(state, i)
                if row.utterance.chunks and self.turn_head is not None:
                    probabilities[i], state = self._judge(i, hidden, self.turn_head, state)
            elif row.reply is not None and row.reply.text_done:
                state = self.writer.read_last(i, hidden, state)
            elif row.reply is not None:
                writing[i] = hidden
        return probabilities, self.writer.write(writing, state) if writing else state

    @torch.inference_mode()
    def prefill(self, state: DialogueState, rows: Collection[int] | None = None) -> DialogueState:
        """Start the next segment of every row (of ``rows``) that waits for one."""
        return self.speaker.prefill(state, rows)

    @torch.inference_mode()
    def draw(
        self, state: DialogueState, rows: Collection[int] | None = None, seconds: Mapping[int, float] | None = None
    ) -> tuple[dict[int, list[int]], DialogueState]:
        """Draw codes for the rows (of ``rows``) that speak: for about ``seconds`` of new sound where that is given."""
        return self.speaker.draw(state, rows, seconds)

    @torch.inference_mode()
    def render(self, drawn: Mapping[int, list[int]], state: DialogueState) -> tuple[list[Tensor], DialogueState]:
        """Turn the codes just drawn into sound: [S] of new audio for each row."""
        return self.speaker.render(drawn, state)

    @torch.inference_mode()
    def transcribe(self, utterance: Utterance, max_tokens: int = 120) -> str:
        """What the user said, by the alignment stage's prompt, on a scratch cache (arXiv:2411.00774, stage 2).

        An adapter that looks tokens up has said it already, and a second pass says it better; a model without that
        prompt (LLaMA-Omni) says nothing.
        """
        parts, second = self.model, self.second_pass
        lookup = parts.adapter.lookup if isinstance(parts, Parts) else parts.adaptor.lookup
        if second is not None and utterance.vectors:
            return str(parts.llm.tokenizer.decode(second.said(utterance))).strip()
        if lookup is not None:
            return str(parts.llm.tokenizer.decode(lookup.read(torch.cat(utterance.embeddings)))).strip()
        if not isinstance(parts, Parts):
            return ""
        heard = torch.cat(utterance.embeddings)
        inputs = parts.prompts.transcribing(heard)
        cache = parts.llm.new_cache(1, len(inputs) + max_tokens)
        ids: list[int] = []
        while len(ids) < max_tokens:
            last, cache = feed(parts.llm, {0: inputs}, cache)
            token = int(parts.llm.logits(last[0]).argmax())
            if token in parts.llm.eos_ids:
                break
            ids.append(token)
            inputs = self.turns.embed([token])
        return str(parts.llm.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _judge(
        self, index: int, hidden: Tensor, turn_head: TurnHead, state: DialogueState
    ) -> tuple[tuple[float, float, float], DialogueState]:
        """Ask the turn head, and let its verdict happen."""
        keep, take, ignore = turn_head(hidden.to(turn_head.linear.weight.dtype)).tolist()
        utterance = state.rows[index].utterance
        if self.second_pass is not None and utterance is not None:
            utterance = self.second_pass.follow(utterance)
            state = with_row(state, index, utterance=utterance)
            over = state.rows[index].turn is Turn.OVERLAP
            keep, take, ignore = self.second_pass.judged((keep, take, ignore), utterance, over=over)
        verdict = judge((keep, take, ignore), self.settings.duplex)
        return (keep, take, ignore), self.signal(index, ChunkHeard(verdict=verdict), state)

    def _check_audio(self, waveform: Tensor, active: Sequence[bool], state: DialogueState) -> None:
        if waveform.shape != (len(state.rows), CHUNK_SAMPLES) or len(active) != len(state.rows):
            raise ValueError(
                f"expected a waveform of shape {(len(state.rows), CHUNK_SAMPLES)} and as many flags as rows, "
                f"got {tuple(waveform.shape)} and {len(active)}"
            )


def _new_text(before: Reply | None, after: Reply | None) -> str:
    if after is None:
        return ""
    return after.text[len(before.text) :] if before is not None and after.base == before.base else after.text


def _is_done(row: Row) -> bool:
    return row.reply is not None and row.reply.done
