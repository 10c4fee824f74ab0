"""Hidden states with which the frozen LLM says a given answer. Knows nothing of codes or of the speech decoder."""

import json
from pathlib import Path

import torch
from torch import Tensor

from icebreaker.data.text import normalise
from icebreaker.errors import DataError
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.llm import LLM

__all__ = ["AnswerStates", "as_heard", "read_contexts"]

NEUTRAL = ("Please say something.",)
Context = tuple[str, ...]  # user, assistant, .., user


class AnswerStates:
    """States of the positions that predict an answer's tokens, in conversations where the answer was given.

    The LLM reads the conversation as text. Each state is worked out once and kept on the CPU.
    """

    def __init__(self, llm: LLM, contexts: dict[str, list[Context]]) -> None:
        self.llm = llm
        self.contexts = contexts
        self.prompt = ChatPrompt.from_tokenizer(llm.tokenizer)
        self._known: dict[tuple[str, int], tuple[Tensor, list[tuple[int, int]]]] = {}

    def of(self, answer: str, first: int, last: int, choice: int) -> Tensor:
        """[n, D] states of the n tokens of ``answer`` that begin within its characters ``first`` to ``last``.

        ``choice``, any integer, picks one of the conversations that fit.
        """
        contexts = self.contexts.get(answer, [NEUTRAL])
        key = answer, choice % len(contexts)
        if key not in self._known:
            self._known[key] = self._compute(answer, contexts[key[1]])
        states, offsets = self._known[key]
        ends = [min(max(end - 1, 0), len(answer) - 1) for _, end in offsets]  # the space before a word is the word's
        chosen = [index for index, end in enumerate(ends) if first <= end < last]
        return states[chosen]

    @torch.no_grad()
    def _compute(self, answer: str, context: Context) -> tuple[Tensor, list[tuple[int, int]]]:
        encode = self.llm.tokenizer
        encoded = encode(answer, add_special_tokens=False, return_offsets_mapping=True)
        ids = list(self.prompt.before_ids)
        for turn, text in enumerate(context):
            said = encode(text, add_special_tokens=False)["input_ids"]
            if turn % 2:
                ids += said
            else:
                ids += [*self.prompt.prefix_ids(turn == 0), *said, *self.prompt.suffix_ids]
        tokens = encoded["input_ids"]
        embeddings = self.llm.embed(torch.tensor([ids + tokens], device=self.llm.embedding.weight.device))
        mask = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        hidden_states = self.llm.train_forward(embeddings, mask)
        start = len(ids) - 1  # the position that predicts the first token
        return hidden_states[0, start : start + len(tokens)].clone().cpu(), encoded["offset_mapping"]


def as_heard(context: Context) -> Context:
    """The conversation as the LLM reads it where the user's turns come from a second pass: plain, after a space."""
    return tuple(text if turn % 2 else f" {normalise(text)}" for turn, text in enumerate(context))


def read_contexts(path: Path, answers: set[str], per_answer: int) -> dict[str, list[Context]]:
    """For each of ``answers`` up to ``per_answer`` conversations in ``path`` (JSON lines) in which it was given.

    Raises:
        DataError: the file is missing or damaged.
    """
    contexts: dict[str, list[Context]] = {}
    try:
        with path.open() as file:
            for line in file:
                texts = [turn["text"] for turn in json.loads(line)["turns"]]
                for index in range(1, len(texts), 2):
                    found = contexts.setdefault(texts[index], []) if texts[index] in answers else None
                    if found is not None and len(found) < per_answer:
                        found.append(tuple(texts[:index]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot read conversations: {error}; build them with `icebreaker data`") from error
    return contexts
