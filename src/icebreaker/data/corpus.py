"""Writes the conversations that the mini backbone learns from. Knows nothing of audio or models.

Narrow on purpose: a few hundred facts, arithmetic up to ten plus ten, repetition, names and small talk in many
phrasings, so that a backbone of a few million parameters answers wordings it has never seen. Which phrasings are
held out is decided by hash in ``relations.py``: every whole question of a conversation comes from the phrasings of
its split. Shared by all splits are only follow-ups ("And of Spain?") and introductions ("My name is Tom.").

Lines are ``{"id", "system": str | null, "turns": [{"role", "text"}, ...], "kind"}``, byte-identical for a seed.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icebreaker.data.relations import Exchange, Relation, Split, load_relations, split_of

__all__ = ["Conversation", "Corpus", "build_text", "read_conversations"]

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
NAMES = (
    "Anna", "Tom", "Max", "Emma", "Lucy", "Jack", "Sara", "Ben", "Rosa", "Leo", "Kate", "Paul", "Maria", "Peter",
    "Julia", "David", "Alice", "Henry", "Nina", "Oscar", "Clara", "Simon", "Laura", "Felix",
)  # fmt: skip
ASSISTANT_ASKS = (
    "Who are you?", "What is your name?", "What's your name?", "Tell me your name.", "Please tell me your name.",
    "Can you tell me your name?", "Could you tell me your name?", "Do you have a name?", "I want to know your name.",
    "I would like to know your name.", "Say your name.", "How are you called?", "What should I call you?",
    "Please, what is your name?", "And who are you?", "Now, what is your name?",
)  # fmt: skip
USER_SAYS = (
    "My name is {}.",
    "I am {}.",
    "Hello, my name is {}.",
    "Hi, I am {}.",
    "Hello, I am {}.",
    "I am called {}.",
)
USER_ASKS = (
    "What is my name?", "Do you know my name?", "Who am I?", "Tell me my name.", "What's my name?",
    "Can you tell me my name?", "Say my name.", "Please tell me my name.", "Now, what is my name?",
)  # fmt: skip
SYSTEM_SHARE = 0.1
FOLLOWUP_SHARE = 0.12
SEVERAL_SHARE = 0.12
LEAST_FACTS = 15  # relations with few facts are sampled as if they had this many
TALK_WEIGHT, ASSISTANT_NAME_WEIGHT, USER_NAME_WEIGHT = 120, 40, 40


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A system prompt (or none) and an even number of turns, user first."""

    id: str
    system: str | None
    turns: tuple[str, ...]
    kind: str

    def to_json(self) -> str:
        """One line of the corpus."""
        turns = [{"role": ("user", "assistant")[i % 2], "text": text} for i, text in enumerate(self.turns)]
        return json.dumps({"id": self.id, "system": self.system, "turns": turns, "kind": self.kind})


class Corpus:
    """All questions of one split, ready to be sampled into conversations."""

    def __init__(self, split: Split) -> None:
        relations, talk = load_relations()
        self.split = split
        self.relations: dict[str, Relation] = {}
        self.exchanges: dict[str, list[Exchange]] = {}
        for relation in relations:
            if own := [exchange for exchange in relation.exchanges() if exchange.split == split]:
                self.relations[relation.kind] = relation
                self.exchanges[relation.kind] = own
        self.weights = {kind: max(LEAST_FACTS, len(self.relations[kind].facts)) for kind in self.relations}
        self.exchanges["talk"] = [exchange for exchange in talk if exchange.split == split]
        self.weights["talk"] = TALK_WEIGHT
        self.assistant_asks = [ask for ask in ASSISTANT_ASKS if split_of(f"name|{ask}") == split]
        self.user_asks = [ask for ask in USER_ASKS if split_of(f"user_name|{ask}") == split]
        self.weights["name"] = ASSISTANT_NAME_WEIGHT if self.assistant_asks else 0
        self.weights["user_name"] = USER_NAME_WEIGHT if self.user_asks else 0

    def sample(self, rng: random.Random, identity: str) -> Conversation:
        """One conversation; equal ``rng`` states give equal conversations."""
        kind = rng.choices(list(self.weights), list(self.weights.values()))[0]
        if kind == "name":
            system, name = _system(rng, 0.5)
            answer = f"My name is {name}." if name else "I am Icebreaker."
            turns = [rng.choice(self.assistant_asks), answer]
        elif kind == "user_name":
            system, (name, turns) = None, self._introduction(rng)
            turns = [*turns, rng.choice(self.user_asks), f"Your name is {name}."]
        else:
            system, _ = _system(rng, SYSTEM_SHARE)
            turns = self._questions(rng, kind)
        return Conversation(id=identity, system=system, turns=tuple(turns), kind=kind)

    def _introduction(self, rng: random.Random) -> tuple[str, list[str]]:
        name = rng.choice(NAMES)
        turns = [rng.choice(USER_SAYS).format(name), f"Nice to meet you, {name}."]
        return name, turns if rng.random() < 0.7 else turns + self._single(rng, self._some_kind(rng))

    def _questions(self, rng: random.Random, kind: str) -> list[str]:
        draw = rng.random()
        turns = self._single(rng, kind)
        if draw < FOLLOWUP_SHARE and kind in self.relations:
            relation = self.relations[kind]
            for _ in range(rng.choice((1, 1, 2))):
                key = rng.choice(list(relation.facts))
                turns += [relation.fill(rng.choice(relation.followups), key), relation.reply(key)]
        elif draw < FOLLOWUP_SHARE + SEVERAL_SHARE:
            turns += self._single(rng, self._some_kind(rng))
        return turns

    def _single(self, rng: random.Random, kind: str) -> list[str]:
        exchange = rng.choice(self.exchanges[kind])
        return [exchange.question, exchange.answer]

    def _some_kind(self, rng: random.Random) -> str:
        kinds = list(self.exchanges)
        return rng.choices(kinds, [self.weights[kind] for kind in kinds])[0]


def build_text(out: Path, *, conversations: int = 60_000, held_out: int = 1500, seed: int = 0) -> dict[str, int]:
    """Write ``train.jsonl``, ``valid.jsonl`` and ``test.jsonl`` into ``out``; the last two hold no line twice.

    Returns:
        The number of conversations in each split.
    """
    out.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for split in SPLITS:
        corpus, rng = Corpus(split), random.Random(f"{split}-{seed}")
        size = conversations if split == "train" else held_out
        lines: list[str] = []
        seen: set[tuple[str | None, tuple[str, ...]]] = set()
        for _ in range(size * 2):
            conversation = corpus.sample(rng, f"{split}-{len(lines):06d}")
            content = (conversation.system, conversation.turns)
            if split == "train" or content not in seen:
                seen.add(content)
                lines.append(conversation.to_json())
            if len(lines) == size:
                break
        aside = out / f"{split}.jsonl.aside"
        aside.write_text("\n".join(lines) + "\n")
        aside.replace(out / f"{split}.jsonl")
        counts[split] = len(lines)
    return counts


def read_conversations(path: Path) -> Iterator[dict[str, Any]]:
    """The conversations of a file that ``build_text`` wrote, as plain mappings."""
    with path.open() as lines:
        for line in lines:
            yield json.loads(line)


def _system(rng: random.Random, share: float) -> tuple[str | None, str | None]:
    if rng.random() >= share:
        return None, None
    name = rng.choice(NAMES)
    return f"Your name is {name}.", name
