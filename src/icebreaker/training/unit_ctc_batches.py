"""Replies with their units and the LLM's states behind them: after questions heard, or conversations read.

Batches are functions of (seed, batch number). Knows nothing of the unit decoder or its loss.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from icebreaker.data.manifest import Item, read_manifest
from icebreaker.errors import DataError
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.llm import LLM
from icebreaker.training.answer_states import NEUTRAL, Context, read_contexts
from icebreaker.training.instruct_batches import Hearing, QuestionConfig, QuestionSource
from icebreaker.training.llm_layout import ids_of
from icebreaker.training.reply_states import StatesRule, reply_states
from icebreaker.training.speech_instruct import Asker

__all__ = ["HeardReplies", "ReadReplies", "Reply", "TextConfig"]


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Recorded sentences of the assistant, and the conversations that some of them come from.

    Attributes:
        answers: manifest of the recordings.
        conversations: folder of text conversations; None: every sentence stands after a neutral request.
        contexts_per_answer: different conversations kept for each answer.
        rows: of a batch.
        pool: batches' worth of sentences that are sorted by length together.
        conversation_share: of the sentences drawn, those the LLM says in the conversations; None: as they come.
    """

    answers: Path
    conversations: Path | None = None
    contexts_per_answer: int = 4
    rows: int = 16
    pool: int = 4
    conversation_share: float | None = None

    def __post_init__(self) -> None:
        if self.rows < 1 or self.pool < 1 or self.contexts_per_answer < 1:
            raise ValueError("rows, pool and contexts_per_answer must be at least 1")


class Reply(NamedTuple):
    """What is said, in which units, and after what."""

    item: Item
    units: Tensor  # [U]
    context: Context  # of text; empty where the question is heard


class HeardReplies:
    """Answers to spoken questions: the LLM hears the question through frozen ears and reads the answer."""

    def __init__(
        self, config: QuestionConfig, split: str, hearing: Hearing, asker: Asker, units: Mapping[str, Tensor]
    ) -> None:
        self.source = QuestionSource(config, split, frozenset(units))
        self.hearing, self.asker, self.units = hearing, asker, units

    def batches(self, first: int, seed: int) -> Iterator[list[Reply]]:
        """Endless batches from number ``first`` on."""
        return (self._replies(items) for items in self.source.batches(first, seed))

    def fixed(self, count: int) -> Iterator[list[Reply]]:
        """``count`` replies, always the same ones."""
        return (self._replies(items) for items in self.source.fixed(count))

    @torch.no_grad()
    def states(self, replies: list[Reply], rule: StatesRule) -> list[Tensor]:
        """[M, D] of each reply."""
        contexts = self.asker.contexts(self.asker.vectors(self.hearing([reply.item for reply in replies])))
        ids = [ids_of(self.asker.llm, self.said(reply)) for reply in replies]
        return reply_states(self.asker.llm, contexts, ids, rule)

    def said(self, reply: Reply) -> str:
        """The words of a reply."""
        return reply.item.answer or ""

    def _replies(self, items: list[Item]) -> list[Reply]:
        return [Reply(item, self.units[item.id], ()) for item in items]


class ReadReplies:
    """Recorded sentences of the assistant: the LLM reads the conversation, where one is known, and the sentence."""

    def __init__(self, config: TextConfig, split: str, llm: LLM, units: Mapping[str, Tensor]) -> None:
        """Raise DataError where no recording of ``split`` has units."""
        self.config, self.llm, self.units = config, llm, units
        self.prompt = ChatPrompt.from_tokenizer(llm.tokenizer)
        self.items = [item for item in read_manifest(config.answers, split) if item.id in units]
        if not self.items:
            raise DataError(f"{config.answers}: no recording of split {split!r} has units; run stage units")
        texts = {item.text for item in self.items}
        conversations = config.conversations / "train.jsonl" if config.conversations else None
        self.contexts = read_contexts(conversations, texts, config.contexts_per_answer) if conversations else {}
        self.in_conversations = [index for index, item in enumerate(self.items) if item.text in self.contexts]

    def batches(self, first: int, seed: int) -> Iterator[list[Reply]]:
        """Endless batches from number ``first`` on."""
        rows, pool = self.config.rows, self.config.pool
        while True:
            rng = np.random.default_rng((seed, first))
            drawn = [self._draw(rng) for _ in range(rows * pool)]
            drawn.sort(key=lambda reply: len(reply.units))
            start = int(rng.integers(pool)) * rows
            yield drawn[start : start + rows]
            first += 1

    def fixed(self, count: int) -> Iterator[list[Reply]]:
        """``count`` replies spread evenly over the split, always the same ones."""
        chosen = np.linspace(0, len(self.items) - 1, min(count, len(self.items))).round().astype(int)
        replies = sorted((self._reply(int(i), 0) for i in dict.fromkeys(chosen)), key=lambda each: len(each.units))
        for start in range(0, len(replies), self.config.rows):
            yield replies[start : start + self.config.rows]

    def states(self, replies: list[Reply], rule: StatesRule) -> list[Tensor]:
        """[M, D] of each reply."""
        contexts = [self._pieces(reply.context) for reply in replies]
        return reply_states(self.llm, contexts, [ids_of(self.llm, self.said(reply)) for reply in replies], rule)

    def said(self, reply: Reply) -> str:
        """The words of a reply."""
        return reply.item.text

    def _draw(self, rng: np.random.Generator) -> Reply:
        index = int(rng.integers(len(self.items)))
        share = self.config.conversation_share
        if share is not None and self.in_conversations and rng.random() < share:
            index = self.in_conversations[int(rng.integers(len(self.in_conversations)))]
        return self._reply(index, int(rng.integers(1 << 30)))

    def _reply(self, index: int, choice: int) -> Reply:
        item = self.items[index]
        contexts = self.contexts.get(item.text) or [NEUTRAL]
        return Reply(item, self.units[item.id], contexts[choice % len(contexts)])

    def _pieces(self, context: Context) -> list[Tensor]:
        """A text conversation [1 piece of n, D] up to where the reply begins."""
        ids = list(self.prompt.before_ids)
        for turn, text in enumerate(context):
            said = ids_of(self.llm, text)
            ids += said if turn % 2 else [*self.prompt.prefix_ids(turn == 0), *said, *self.prompt.suffix_ids]
        return [self.llm.embed(torch.tensor([ids], device=self.llm.embedding.weight.device))[0]]
