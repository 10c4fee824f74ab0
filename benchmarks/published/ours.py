"""Icebreaker's own pipeline over random weights, saying a given text. Everything is computed; only the draws are given.

Random weights would write no words and no pauses, so each token drawn is replaced by the next of the given reply, and a
segment ends after as many codes as its letters take to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from benchmarks.published.reference import codes_of
from icebreaker.dialogue import Dialogue, DialogueState
from icebreaker.dialogue.parts import Parts
from icebreaker.dialogue.speaking import Speaker
from icebreaker.dialogue.state import Speaking
from icebreaker.dialogue.writing import Writer
from icebreaker.duplex import Committed, SpeechStarted
from icebreaker.models.codec_lm_ticks import CodecLMTicks
from icebreaker.models.llm_ticks import LLMTicks

__all__ = ["Told"]

FIRST_TOKENS = 24  # tokens that a reply without sound may get before anybody speaks: the engine's rule


class ToldSpeaker(Speaker):
    """Ends segments where their text would end."""

    def _take(self, code: int, now: Speaking) -> tuple[Speaking, list[int]]:
        now, new = super()._take(code, now)
        return replace(now, ended=len(now.history) >= codes_of(now.segment.text)), new


class ToldWriter(Writer):
    """Overrules every draw: row ``i`` writes ``replies[i]`` (token ids), then ends."""

    replies: Mapping[int, Sequence[int]] = MappingProxyType({})

    def _choose(self, logits: Tensor, rows: Sequence[int], state: DialogueState) -> list[int]:
        super()._choose(logits, rows, state)
        said = [len(reply.tokens) for i in rows if (reply := state.rows[i].reply) is not None]
        return [
            self.replies[i][n] if n < len(self.replies[i]) else int(self.llm.tokenizer.eos_token_id)
            for i, n in zip(rows, said, strict=True)
        ]


class Told(Dialogue):
    """A dialogue whose row ``i`` says ``replies[i]`` (token ids)."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.speaker = ToldSpeaker(parts)
        self.turns.speaker = self.speaker
        self.writer: ToldWriter = ToldWriter(parts, self.speaker, self.turns.embed)

    @torch.inference_mode()
    def after(self, positions: int, replies: Sequence[Sequence[int]]) -> DialogueState:
        """Conversations of ``positions`` each, in which the user is heard and about to be answered by ``replies``."""
        self.writer.replies = dict(enumerate(replies))
        state = self.initial_state(range(len(replies)), positions + 1024, before_ids=())
        state.context.length.fill_(positions)
        if state.context.length.is_cuda:  # as the engine does
            self.parts.llm.ticks = LLMTicks(self.parts.llm, state.context)
            self.parts.codec_lm.ticks = CodecLMTicks(self.parts.codec_lm)
        for row in range(len(replies)):
            state = self.signal(row, SpeechStarted(), state)
        return self.think(state)[1]  # the user's prefix and the prompt embeddings

    @torch.inference_mode()
    def take_turns(self, state: DialogueState) -> DialogueState:
        """The turn is decided, for everybody at once."""
        for row in range(len(state.rows)):
            state = self.signal(row, Committed(), state)
        return state

    @torch.inference_mode()
    def rehearse(self, state: DialogueState) -> None:
        """Speak for two seconds, so that every step is recorded; ``state`` itself goes on from where it was.

        Caches are written past their lengths only, and the generators of the draws are nobody's business here.
        """
        state = self.take_turns(state)
        for _ in range(10):
            _, state = self.advance(state)

    @torch.inference_mode()
    def advance(self, state: DialogueState) -> tuple[dict[int, Tensor], DialogueState]:
        """One tick: text for those who have no sound and nothing to speak, then codes and sound [S] of each row."""
        rows = [i for i, row in enumerate(state.rows) if row.reply is not None and not row.reply.text_done]
        for _ in range(FIRST_TOKENS):
            if not rows:
                break
            _, state = self.think(state, rows)
            rows = [i for i in rows if _waits_for_text(state, i)]
        state = self.prefill(state)
        drawn, state = self.draw(state)
        audio, state = self.render(drawn, state)
        return {i: sound.cpu() for i, sound in enumerate(audio) if len(sound)}, state


def _waits_for_text(state: DialogueState, index: int) -> bool:
    reply = state.rows[index].reply
    if reply is None or reply.text_done or reply.samples:
        return False
    return reply.speaking is None and not reply.queue
