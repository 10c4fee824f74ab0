"""Questions and their answers, as templates filled with facts. Knows nothing of conversations or files.

A phrasing (a template of one relation) belongs to one split for good, by the SHA-256 of ``kind|template``: the first
byte modulo 10 is 0 for test, 1 for valid, else train. Every fact is in train under the train phrasings, so valid and
test ask known facts in unseen words.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

__all__ = ["Exchange", "Relation", "Split", "capital", "phrased", "split_of"]

Split = Literal["train", "valid", "test"]

NOUN_FRAMES = (
    "What is {}?",
    "What's {}?",
    "Now, what is {}?",
    "And what is {}?",
    "Please, what is {}?",
)
CLAUSE_FRAMES = (  # for nouns too
    "Tell me {}.",
    "Please tell me {}.",
    "Can you tell me {}?",
    "Could you tell me {}?",
    "Do you know {}?",
    "I want to know {}.",
    "I would like to know {}.",
    "Can you tell me {}, please?",
)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One question, its answer, and the split that its phrasing belongs to."""

    kind: str
    question: str
    answer: str
    split: Split


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A family of facts that are asked for in the same ways."""

    kind: str
    templates: tuple[str, ...]
    followups: tuple[str, ...]
    answer: str
    facts: dict[str, str]

    def exchanges(self) -> Iterator[Exchange]:
        """Every fact in every phrasing."""
        for template in self.templates:
            split = split_of(f"{self.kind}|{template}")
            for key in self.facts:
                yield Exchange(kind=self.kind, question=self.fill(template, key), answer=self.reply(key), split=split)

    def of_split(self, split: Split) -> tuple[str, ...]:
        """The phrasings of one split."""
        return tuple(template for template in self.templates if split_of(f"{self.kind}|{template}") == split)

    def fill(self, template: str, key: str) -> str:
        """``template`` about the fact ``key``."""
        value = self.facts[key]
        slots = {"x": key, "y": value, "a": "", "b": "", "c": ""} | dict(zip("abc", key.split("/"), strict=False))
        return capital(template.format(**slots, **{name.upper(): capital(slot) for name, slot in slots.items()}))

    def reply(self, key: str) -> str:
        """The answer about the fact ``key``."""
        return self.fill(self.answer, key)

    def with_facts(self, facts: Mapping[str, str]) -> "Relation":
        """The same relation with more facts; its own go first and stay what they are."""
        return dataclasses.replace(self, facts=self.facts | {k: v for k, v in facts.items() if k not in self.facts})

    def first(self, size: int) -> "Relation":
        """The same relation with its first facts only."""
        return dataclasses.replace(self, facts=dict(islice(self.facts.items(), size)))


def phrased(
    kind: str,
    answer: str,
    facts: dict[str, str],
    *,
    nouns: list[str],
    clauses: list[str],
    asks: list[str],
    followups: list[str],
) -> Relation:
    """A relation whose nouns and clauses are put into every frame; ``asks`` are whole sentences."""
    templates = [frame.format(noun) for noun in nouns for frame in NOUN_FRAMES]
    templates += [frame.format(core) for core in nouns + clauses for frame in CLAUSE_FRAMES]
    return Relation(
        kind=kind,
        templates=tuple(dict.fromkeys(templates + asks)),
        followups=tuple(followups),
        answer=answer,
        facts=facts,
    )


def split_of(text: str) -> Split:
    """The split that ``text`` belongs to for good: test and valid get a tenth each."""
    bucket = hashlib.sha256(text.encode()).digest()[0] % 10
    return "test" if bucket == 0 else "valid" if bucket == 1 else "train"


def capital(text: str) -> str:
    """``text`` with its first letter as a capital."""
    return text[:1].upper() + text[1:]
