"""InstructS2S, the two steps of the LLM: instructions as they would be said, and answers to them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from icebreaker.data.instruct_s2s_config import InstructS2SConfig
from icebreaker.data.instructions import Instruction
from icebreaker.data.journal import Journal
from icebreaker.data.recording import Progress
from icebreaker.data.rewriting import ANSWER, QUESTION, Wanted, answer_prompt, question_prompt, take
from icebreaker.data.speakable import why_unspeakable
from icebreaker.data.spread import Spread, here
from icebreaker.data.text_llm import Asked, TextLLM, load_text_llm, spread_replies

__all__ = ["Writer"]

# What rewriting is for; nothing speakable comes of code, links, tables and other languages.
MENDABLE = ("symbols", "markup")


@dataclass
class Writer:
    """The two steps of the LLM."""

    config: InstructS2SConfig
    llm: TextLLM | None
    spread: Spread = here

    def rewrite(self, items: list[Instruction], journal: Journal, progress: Progress) -> None:
        """Each instruction as a question that can be said."""
        waiting = []
        for item in items:
            if item.id in journal:
                continue
            reason = why_unspeakable(item.text, self.config.most_instruction_words)
            waiting.append((item, None if reason in MENDABLE else reason))
        asked = [self._asked("question", item.id, question_prompt(item.text)) for item, reason in waiting if not reason]
        replies = self._replies(asked)
        wanted = Wanted(QUESTION, self.config.most_question_words)
        for item, reason in waiting:
            journal.add({"id": item.id, **({"dropped": reason} if reason else self._taken(next(replies), wanted))})
            progress(len(journal.rows), len(items))

    def answer(self, questions: list[dict[str, Any]], journal: Journal, progress: Progress) -> None:
        """An answer to each question."""
        waiting = [row for row in questions if row["id"] not in journal]
        asked = [self._asked("answer", row["id"], answer_prompt(row["question"])) for row in waiting]
        wanted = Wanted(ANSWER, self.config.most_answer_words)
        for row, reply in zip(waiting, self._replies(asked), strict=True):
            taken = self._taken(reply, wanted)
            journal.add({"id": row["id"], **({"question": row["question"]} if "dropped" not in taken else {}), **taken})
            progress(len(journal.rows), len(questions))

    def _replies(self, asked: list[Asked]) -> Iterator[str | None]:
        if not asked:
            return iter(())
        if self.llm is None and self.spread is not here:
            return spread_replies(self.config.llm, asked, self.spread)
        if self.llm is None:
            self.llm = load_text_llm(self.config.llm)
        return self.llm.replies(asked)

    def _asked(self, step: str, name: str, prompt: tuple[str, str]) -> Asked:
        digest = hashlib.sha256(f"{self.config.seed}|{step}|{name}".encode()).digest()
        return Asked(*prompt, int.from_bytes(digest[:4], "big") & 0x7FFFFFFF)

    def _taken(self, reply: str | None, wanted: Wanted) -> dict[str, Any]:
        if reply is None:
            return {"dropped": "refused"}
        text, reason = take(reply, wanted, plain=self.config.plain_replies)
        return {"dropped": reason} if reason else {wanted.field: text}
