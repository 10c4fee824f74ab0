"""The text of replies: LLM states to tokens, tokens to what is to be said. Knows nothing of listening or of codes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from icebreaker.dialogue.parts import OmniParts, Parts
from icebreaker.dialogue.speaking import Speaker
from icebreaker.dialogue.state import DialogueState, truncate, with_row
from icebreaker.dialogue.unit_speaking import UnitSpeaker
from icebreaker.models.sampling import sample

__all__ = ["Writer"]


class Writer:
    """Goes on with the replies of some rows.

    Args:
        parts: of the model.
        speaker: is given every token.
        embed: [n, D] of token ids.
    """

    def __init__(
        self, parts: Parts | OmniParts, speaker: Speaker | UnitSpeaker, embed: Callable[[Sequence[int]], Tensor]
    ) -> None:
        self.llm, self.settings, self.speaker, self.embed = parts.llm, parts.settings, speaker, embed

    def write(self, hidden: Mapping[int, Tensor], state: DialogueState) -> DialogueState:
        """Draw the next token of some rows' replies; the head, a large matrix, is read once for all of them."""
        logits = self.llm.logits(torch.stack(list(hidden.values())))
        tokens = self._choose(logits, list(hidden), state)
        for (index, vector), token in zip(hidden.items(), tokens, strict=True):
            state = self._append(index, token, vector, state)
        return state

    def read_last(self, index: int, hidden: Tensor, state: DialogueState) -> DialogueState:
        """Keep the state at a reply's last token, for a speech decoder that wants it; the end itself is not kept."""
        reply = state.rows[index].reply
        assert reply is not None
        state = truncate(state, index, reply.base + len(reply.tokens))
        return with_row(state, index, reply=replace(reply, hidden=(*reply.hidden, hidden)))

    def _choose(self, logits: Tensor, rows: Sequence[int], state: DialogueState) -> list[int]:
        """The next token of each of ``rows``, from ``logits`` [n, V]."""
        configs = [state.rows[i].manner.text or self.settings.text for i in rows]
        if all(config.greedy and config.repetition_penalty == 1 for config in configs):
            return [int(token) for token in logits.argmax(-1).tolist()]
        tokens = []
        for row, config, own in zip(rows, configs, logits, strict=True):
            reply = state.rows[row].reply
            assert reply is not None
            history = torch.tensor([reply.tokens], dtype=torch.long, device=logits.device)
            tokens.append(int(sample(own[None], config, history, state.rows[row].generator)[0]))
        return tokens

    def _append(self, index: int, token: int, hidden: Tensor, state: DialogueState) -> DialogueState:
        """Add ``token``, which ``hidden`` predicted, to a reply."""
        row = state.rows[index]
        reply = row.reply
        assert reply is not None
        reply = replace(reply, hidden=(*reply.hidden, hidden))
        if token in self.llm.eos_ids:
            reply = replace(reply, text_done=True)
        else:
            tokens = (*reply.tokens, token)
            text = str(self.llm.tokenizer.decode(tokens, skip_special_tokens=True))
            ended = len(tokens) >= (row.manner.max_text_tokens or self.settings.max_text_tokens)
            reply = self.speaker.wrote(replace(reply, tokens=tokens, text=text, text_done=ended), row.manner)
        if reply.text_done:
            reply = self.speaker.finished(reply, row.manner)
        goes_on = not reply.text_done or self.speaker.reads_last
        return with_row(state, index, reply=reply, pending=self.embed([token]) if goes_on else None)
