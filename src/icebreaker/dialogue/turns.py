"""What events do to a row: utterances open and close, replies begin, stop and end. Knows nothing of audio or draws."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from icebreaker.dialogue.ears import Ears
from icebreaker.dialogue.parts import OmniParts, Parts
from icebreaker.dialogue.second_pass import second_pass_of
from icebreaker.dialogue.speaking import Speaker
from icebreaker.dialogue.state import DialogueState, Reply, Row, Utterance, truncate, with_row
from icebreaker.dialogue.unit_speaking import UnitSpeaker
from icebreaker.duplex import (
    CancelResponse,
    DropUtterance,
    Event,
    OpenUtterance,
    ReplyFinished,
    StartResponse,
    Turn,
    transition,
)
from icebreaker.text.heard import heard_tokens

__all__ = ["Turns"]


class Turns:
    """Carries out, on the state of a dialogue, what the table in ``duplex`` says."""

    def __init__(self, parts: Parts | OmniParts, ears: Ears, speaker: Speaker | UnitSpeaker) -> None:
        self.parts = parts
        self.ears = ears
        self.speaker = speaker
        self.second_pass = second_pass_of(parts)

    def happen(self, index: int, event: Event, state: DialogueState) -> DialogueState:
        """Let ``event`` happen to one row."""
        before = state.rows[index].turn
        turn, actions = transition(before, event, self.parts.settings.duplex)
        for action in actions:
            match action:
                case OpenUtterance():
                    state = self._open(index, turn, event.played_ms, state)
                case DropUtterance():
                    state = self._drop(index, state)
                case CancelResponse(played_ms=played_ms):
                    state = self._cancel(index, played_ms, state)
                case StartResponse():
                    state = self._answer(index, state)
        if isinstance(event, ReplyFinished):
            state = self._finish(index, state)
        if before is Turn.OVERLAP and turn is Turn.HEARING:
            state = self._move_in(index, state)
        return with_row(state, index, turn=turn)

    def embed(self, ids: Sequence[int]) -> Tensor:
        """[n, D] input embeddings of ``ids``."""
        device = self.parts.llm.embedding.weight.device
        if not ids:
            return torch.zeros(0, self.parts.llm.width, device=device)
        return self.parts.llm.embed(torch.tensor([list(ids)], dtype=torch.long, device=device))[0]

    def _open(self, index: int, turn: Turn, played_ms: float, state: DialogueState) -> DialogueState:
        """Begin an utterance: on the conversation itself, or on a branch while the assistant speaks."""
        parts, row = self.parts, state.rows[index]
        start = int(state.context.length[index]) + (0 if row.pending is None else len(row.pending))
        carry = row.carry
        if turn is Turn.OVERLAP and row.reply is not None:
            heard, carry = self._heard(row.reply, played_ms, int(state.context.length[index]))
            start = row.reply.base + heard
            branch = state.branch or parts.llm.new_cache(len(state.rows), state.context.capacity)
            saved = state.context.row(index)
            kept = saved._replace(length=saved.length.clamp(max=start))
            state = state._replace(branch=branch.with_row(index, kept))
        utterance = Utterance(start, pending=torch.cat([self._user_prefix(row, carry), *self._prompts()]))
        return self.ears.open(index, utterance, state)

    def _move_in(self, index: int, state: DialogueState) -> DialogueState:
        """The assistant is silent now: what was heard on a branch is replayed on the conversation and goes on there."""
        row = state.rows[index]
        if row.utterance is None:
            return state
        pending = torch.cat([self._user_prefix(row, row.carry), *self._prompts(), *row.utterance.embeddings])
        start = int(state.context.length[index]) + (0 if row.pending is None else len(row.pending))
        return with_row(state, index, utterance=replace(row.utterance, start=start, pending=pending))

    def _drop(self, index: int, state: DialogueState) -> DialogueState:
        """Forget an utterance; one on a branch never touched the conversation."""
        row = state.rows[index]
        if row.turn is Turn.HEARING and row.utterance is not None:
            state = truncate(state, index, row.utterance.start)
        return with_row(state, index, utterance=None)

    def _answer(self, index: int, state: DialogueState) -> DialogueState:
        """Begin a reply to the utterance; one from a branch is replayed on the conversation as it was heard.

        After a second pass the conversation has its tokens instead, as if they had been written.
        """
        row, parts = state.rows[index], self.parts
        utterance = row.utterance
        suffix = self.embed(parts.chat.suffix_ids)
        pieces = [suffix]
        if utterance is not None and self.second_pass is not None and (ids := self.second_pass.said(utterance)):
            if row.turn is Turn.HEARING:
                row = self._without_utterance(row, utterance, int(state.context.length[index]))
                state = truncate(state, index, utterance.start)
            pieces = [self._user_prefix(row, row.carry), self.embed(ids), suffix]
        elif utterance is not None and row.turn is Turn.OVERLAP:
            heard = (*utterance.embeddings, *self.ears.rest(utterance))
            pieces = [self._user_prefix(row, row.carry), *self._prompts(), *heard, suffix]
        elif utterance is not None:
            waiting = () if utterance.pending is None else (utterance.pending,)
            pieces = [*waiting, *self.ears.rest(utterance), suffix]
        if row.pending is not None:
            pieces = [row.pending, *pieces]
        pending = torch.cat(pieces)
        base = int(state.context.length[index]) + len(pending)
        reply, state = self.speaker.begin(index, base, state)
        return with_row(state, index, utterance=None, pending=pending, reply=reply, carry=(), answered=True)

    def _without_utterance(self, row: Row, utterance: Utterance, length: int) -> Row:
        """``row`` with nothing of ``utterance`` waiting to be read, where ``length`` positions were."""
        before = max(0, utterance.start - length)  # of what waits, this stands before it
        return replace(row, pending=row.pending[:before] if row.pending is not None and before else None)

    def _cancel(self, index: int, played_ms: float, state: DialogueState) -> DialogueState:
        """Stop the reply and take back what was not heard."""
        row = state.rows[index]
        if row.reply is None:
            return state
        heard, carry = self._heard(row.reply, played_ms, int(state.context.length[index]))
        pending = None if row.reply.tokens else row.pending  # before the first token the suffix may still wait
        state = truncate(state, index, row.reply.base + heard)
        return with_row(state, index, reply=None, pending=pending, carry=carry)

    def _finish(self, index: int, state: DialogueState) -> DialogueState:
        """The reply was played to its end; a reply that met its length limit has a last token to carry over."""
        row = state.rows[index]
        if row.reply is None:
            return state
        fed = int(state.context.length[index]) - row.reply.base
        return with_row(state, index, reply=None, pending=None, carry=row.reply.tokens[fed:])

    def _heard(self, reply: Reply, played_ms: float, length: int) -> tuple[int, tuple[int, ...]]:
        """How many heard tokens are in the cache, and the heard ones that are not."""
        played = round(played_ms * self.speaker.sample_rate / 1000)
        heard = heard_tokens(self.speaker.spans(reply, words=True), played)
        fed = min(heard, max(0, length - reply.base))
        return fed, reply.tokens[fed:heard]

    def _prompts(self) -> tuple[Tensor, ...]:
        """Trained vectors before the speech, where the family has any."""
        return (self.parts.prompts.prompt_embeddings.weight,) if isinstance(self.parts, Parts) else ()

    def _user_prefix(self, row: Row, carry: Sequence[int]) -> Tensor:
        return self.embed([*carry, *self.parts.chat.prefix_ids(first=not row.answered)])
