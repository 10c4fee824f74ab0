"""A dialogue as a thing that is asked and answers, in writing or aloud. Knows nothing of scores."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES
from icebreaker.dialogue import Dialogue
from icebreaker.dialogue.state import DialogueState, Manner, Utterance, with_row
from icebreaker.duplex import Committed, DuplexConfig, Turn
from icebreaker.talking import Answer, answer_turn

__all__ = ["answer_aloud", "answer_in_writing", "chunks_of", "say"]

SOMETHING = "Please say something."  # what the speech decoder's training asks where a sentence answers nothing
NEVER = DuplexConfig(take_threshold=1.0, ignore_threshold=1.0)  # the recording is the turn, as in `icebreaker talk`


def answer_in_writing(dialogue: Dialogue, question: str, *, seed: int = 0) -> str:
    """Text in, text out, with the same prompt, template and sampling as speech: T→T."""
    parts = dialogue.model
    ids = [*parts.chat.prefix_ids(first=True), *parts.llm.tokenizer.encode(question, add_special_tokens=False)]
    state = dialogue.initial_state([seed], len(ids) + _reply_room(dialogue))
    asked = Utterance(start=0, pending=dialogue.turns.embed(ids))
    state = with_row(state, 0, turn=Turn.HEARING, utterance=asked)
    state = dialogue.signal(0, Committed(), state)
    while (reply := state.rows[0].reply) is not None and not reply.text_done:
        _, state = dialogue.think(state)
    return "" if reply is None else reply.text.strip()


def answer_aloud(
    dialogue: Dialogue, waveform: NDArray[np.float32], *, seed: int = 0, use_turn_head: bool = False
) -> Answer:
    """Speech in, text and speech out, with a clock: A→T and A→S. ``waveform`` [S] at 16 kHz is one turn."""
    dialogue = dialogue if use_turn_head else dialogue.with_duplex(NEVER)
    chunks = chunks_of(waveform)
    state = dialogue.initial_state([seed], dialogue.positions(len(chunks) * 0.16) + _reply_room(dialogue))
    return answer_turn(dialogue, list(chunks), state)[0]


@torch.inference_mode()
def say(dialogue: Dialogue, text: str, *, asked: str = SOMETHING, seed: int = 0) -> NDArray[np.float32]:
    """[S] at the codec's rate: ``text`` as the dialogue would speak it, had its LLM answered ``asked`` with it."""
    parts = dialogue.model
    encode = parts.llm.tokenizer.encode
    question = encode(asked, add_special_tokens=False)
    before = [*parts.chat.before_ids, *parts.chat.prefix_ids(first=True), *question, *parts.chat.suffix_ids]
    tokens = encode(text, add_special_tokens=False)
    embeddings = dialogue.turns.embed([*before, *tokens])[None]
    state = dialogue.initial_state([seed], embeddings.shape[1])
    hidden, _ = parts.llm(embeddings, state.context, torch.tensor([embeddings.shape[1]], device=embeddings.device))
    predicting = hidden[0, len(before) - 1 : len(before) + len(tokens)]
    return _speak(dialogue, _written(dialogue, tokens, predicting, state))


def chunks_of(waveform: NDArray[np.float32]) -> Tensor:
    """[n, 2560]: ``waveform`` [S] in pieces of 160 ms, the last one padded with silence."""
    padded = np.pad(waveform, (0, -len(waveform) % CHUNK_SAMPLES))
    return torch.from_numpy(np.ascontiguousarray(padded, dtype=np.float32)).view(-1, CHUNK_SAMPLES)


def _written(dialogue: Dialogue, tokens: list[int], hidden: Tensor, state: DialogueState) -> DialogueState:
    """A conversation with a reply whose text is complete and of which nothing was spoken yet.

    ``hidden`` [n + 1, D] are the states that predicted the tokens, and the reply's end.
    """
    speaker, decode, manner = dialogue.speaker, dialogue.model.llm.tokenizer.decode, Manner()
    reply, state = speaker.begin(0, 0, state)
    for count in range(1, len(tokens) + 1):
        text = str(decode(tokens[:count], skip_special_tokens=True))
        reply = speaker.wrote(replace(reply, tokens=tuple(tokens[:count]), text=text), manner)
    reply = speaker.finished(replace(reply, hidden=tuple(hidden), text_done=True), manner)
    return with_row(state, 0, turn=Turn.SPEAKING, reply=reply, pending=None)


def _speak(dialogue: Dialogue, state: DialogueState) -> NDArray[np.float32]:
    pieces = [np.zeros(0, dtype=np.float32)]
    while (reply := state.rows[0].reply) is not None and not reply.done:
        state = dialogue.prefill(state)
        drawn, state = dialogue.draw(state)
        audio, state = dialogue.render(drawn, state)
        pieces.append(audio[0].float().cpu().numpy())
    return np.concatenate(pieces)


def _reply_room(dialogue: Dialogue) -> int:
    return 200 + len(dialogue.model.chat.before_ids) + dialogue.settings.max_text_tokens
