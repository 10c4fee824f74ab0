"""Questions and their answers, as templates filled with facts. Knows nothing of conversations or files.

A phrasing (a template of one relation) belongs to one split for good, by the SHA-256 of ``kind|template``: the first
byte modulo 10 is 0 for test, 1 for valid, else train. Small talk comes in groups of whole sentences; a group under
``SMALLEST_SPLIT_GROUP`` sentences is all train, since nobody could guess the answer to its only other wording.
Every fact is in train under the train phrasings, so valid and test ask known facts in unseen words.
"""

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from icebreaker.data.text import number_words

__all__ = ["Exchange", "Relation", "Split", "load_relations", "split_of"]

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
SMALLEST_SPLIT_GROUP = 6
LARGEST_ADDEND = 10
ADJECTIVES = (
    "red", "blue", "green", "big", "small", "old", "new", "hot", "cold", "happy", "nice", "little",
)  # fmt: skip
NOUNS = (
    "apple", "banana", "house", "car", "dog", "cat", "tree", "river", "mountain", "book", "table", "chair",
    "window", "door", "flower", "garden", "bird", "horse", "water", "bread", "cheese", "milk", "sugar", "coffee",
    "summer", "winter", "morning", "evening", "doctor", "teacher", "music", "paper", "train", "school", "kitchen",
    "bottle", "shoe", "shirt", "hat", "moon",
)  # fmt: skip


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

    def fill(self, template: str, key: str) -> str:
        """``template`` about the fact ``key``."""
        first, _, second = key.partition("/")
        value = self.facts[key]
        slots = {"x": key, "y": value, "a": first, "b": second}
        return template.format(**slots, **{name.upper(): _capital(slot) for name, slot in slots.items()})

    def reply(self, key: str) -> str:
        """The answer about the fact ``key``."""
        return _capital(self.fill(self.answer, key))


def split_of(text: str) -> Split:
    """The split that ``text`` belongs to for good: test and valid get a tenth each."""
    bucket = hashlib.sha256(text.encode()).digest()[0] % 10
    return "test" if bucket == 0 else "valid" if bucket == 1 else "train"


def load_relations() -> tuple[list[Relation], list[Exchange]]:
    """The relations of ``facts.toml``, arithmetic and repetition, and the small talk."""
    tables = tomllib.loads((resources.files("icebreaker.data") / "facts.toml").read_text())
    facts = {table["kind"]: table["facts"] for table in tables["relations"] if "facts" in table}
    relations = [_relation(table, facts) for table in tables["relations"]]
    return [*relations, *_arithmetic(), *_order(), *_repetition(), _counting()], list(_small_talk(tables["talks"]))


def _relation(table: dict[str, Any], facts: dict[str, dict[str, str]]) -> Relation:
    own = table.get("facts") or {value: key for key, value in facts[table["inverse_of"]].items()}
    return _phrased(
        table["kind"],
        table["answer"],
        own,
        nouns=table.get("nouns", []),
        clauses=table.get("clauses", []),
        asks=table["asks"],
        followups=table["followups"],
    )


def _phrased(
    kind: str,
    answer: str,
    facts: dict[str, str],
    *,
    nouns: list[str],
    clauses: list[str],
    asks: list[str],
    followups: list[str],
) -> Relation:
    templates = [frame.format(noun) for noun in nouns for frame in NOUN_FRAMES]
    templates += [frame.format(core) for core in nouns + clauses for frame in CLAUSE_FRAMES]
    return Relation(
        kind=kind,
        templates=tuple(dict.fromkeys(templates + asks)),
        followups=tuple(followups),
        answer=answer,
        facts=facts,
    )


def _arithmetic() -> Iterator[Relation]:
    words = [number_words(n) for n in range(2 * LARGEST_ADDEND + 1)]
    numbers = range(1, LARGEST_ADDEND + 1)
    sums = {f"{words[a]}/{words[b]}": words[a + b] for a in numbers for b in numbers}
    yield _phrased(
        "sum",
        "{a} plus {b} is {y}.",
        sums,
        nouns=["{a} plus {b}", "the sum of {a} and {b}"],
        clauses=["how much {a} plus {b} is"],
        asks=["How much is {a} plus {b}?", "What does {a} plus {b} make?",
              "Add {a} and {b}.", "What do you get for {a} plus {b}?"],
        followups=["And {a} plus {b}?", "What about {a} plus {b}?"],
    )  # fmt: skip
    differences = {
        f"{number_words(a)}/{number_words(b)}": number_words(a - b) for a in numbers for b in range(1, a + 1)
    }
    yield _phrased(
        "difference",
        "{a} minus {b} is {y}.",
        differences,
        nouns=["{a} minus {b}"],
        clauses=["how much {a} minus {b} is"],
        asks=["How much is {a} minus {b}?", "What does {a} minus {b} make?",
              "Take {b} from {a}.", "What do you get for {a} minus {b}?"],
        followups=["And {a} minus {b}?", "What about {a} minus {b}?"],
    )  # fmt: skip


def _order() -> Iterator[Relation]:
    for kind, word, step in (("number_after", "after", 1), ("number_before", "before", -1)):
        yield _phrased(
            kind,
            f"{{y}} comes {word} {{x}}.",
            {number_words(n): number_words(n + step) for n in range(1, 20)},
            nouns=[f"the number {word} {{x}}"],
            clauses=[f"which number comes {word} {{x}}"],
            asks=[f"Which number comes {word} {{x}}?", f"What number comes {word} {{x}}?", f"What comes {word} {{x}}?"],
            followups=[f"And {word} {{x}}?"],
        )


def _counting() -> Relation:
    words = [number_words(n) for n in range(1, LARGEST_ADDEND + 1)]
    return Relation(
        kind="count",
        templates=("Count to {x}.", "Please count to {x}.", "Can you count to {x}?", "Could you count to {x}?",
                   "I want you to count to {x}.", "Count from one to {x}.", "Now count to {x}.",
                   "Please count from one to {x}.", "Can you count from one to {x}?"),
        followups=("And to {x}?",),
        answer="{y}.",
        facts={words[end - 1]: ", ".join(words[:end]) for end in range(2, LARGEST_ADDEND + 1)},
    )  # fmt: skip


def _repetition() -> Iterator[Relation]:
    pairs = [f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
    kept = sorted(pairs, key=lambda pair: hashlib.sha256(pair.encode()).digest())[:200]
    for kind, thing, sayings in (("repeat", "the word", NOUNS + ADJECTIVES), ("repeat_pair", "the words", kept)):
        yield Relation(
            kind=kind,
            templates=(f"Say {thing} {{x}}.", f"Please say {thing} {{x}}.", f"Can you say {thing} {{x}}?",
                       f"Repeat {thing} {{x}}.", f"Please repeat {thing} {{x}}.", f"Can you repeat {thing} {{x}}?",
                       "Repeat after me, {x}.", "Say {x}.", "Please say {x}.", f"Now say {thing} {{x}}.",
                       f"I want you to say {thing} {{x}}.", f"Could you say {thing} {{x}}?"),
            followups=("And {x}?", "Now {x}.", "And now {x}."),
            answer="{y}.",
            facts={saying: saying for saying in sayings},
        )  # fmt: skip


def _small_talk(groups: list[dict[str, Any]]) -> Iterator[Exchange]:
    for group in groups:
        splittable = len(group["asks"]) >= SMALLEST_SPLIT_GROUP
        for ask in group["asks"]:
            split = split_of(f"talk|{ask}") if splittable else "train"
            yield Exchange(kind="talk", question=ask, answer=group["answer"], split=split)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
