"""Writes the conversations that the mini backbone learns from. Knows nothing of audio or models.

Everyday knowledge, arithmetic, spelling, repetition, small talk, personas, memory and follow-ups, each fact in many
phrasings, so that a backbone of a few million parameters answers wordings it has never seen. Which phrasings are held
out is decided by hash in ``relations.py``: every whole question of a conversation comes from the phrasings of its
split. Shared by all splits are only follow-ups ("And of Spain?") and what users tell ("My name is Tom."). What people
say daily to an assistant is train's, whatever its hash (``corpus_daily.py``).

Lines are ``{"id", "system": str | null, "turns": [{"role", "text"}, ...], "kind"}``, byte-identical for a seed.
"""

import json
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icebreaker.data.aside import written_aside
from icebreaker.data.corpus_daily import DAILY, SAYINGS, daily
from icebreaker.data.corpus_facts import TABLES, load_relations
from icebreaker.data.corpus_memory import ATTRIBUTES, NAMES, NOTHING_SAID, SAY_AGAIN, Attribute, asks_of, said_again
from icebreaker.data.corpus_requests import REFUSALS, REQUEST, UNKNOWABLE, read_requests
from icebreaker.data.corpus_styles import BRIEF, CHATTY, CHATTY_REPLY, plain_prompt, style_prompt
from icebreaker.data.relations import Exchange, Relation, Split, split_of
from icebreaker.errors import DataError

__all__ = ["UNASKED", "Conversation", "Corpus", "build_text", "read_conversations"]

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
ASSISTANT_ASKS = (
    "Who are you?", "What is your name?", "What's your name?", "Tell me your name.", "Please tell me your name.",
    "Can you tell me your name?", "Could you tell me your name?", "Do you have a name?", "I want to know your name.",
    "I would like to know your name.", "Say your name.", "How are you called?", "What should I call you?",
    "Please, what is your name?", "And who are you?", "Now, what is your name?",
)  # fmt: skip
UNASKED = "unasked"  # asks for what nobody said; never to be joined with other conversations
SYSTEM_SHARE, STYLE_SHARE = 0.08, 0.08
FOLLOWUP_SHARE = 0.12
SEVERAL_SHARE = 0.10
DAILY_SHARE = 0.15  # more conversations than was asked for
PLAIN_SHARE, BRIEF_SHARE = 0.45, 0.3  # of the styled ones; the rest are chatty
STYLED_DAILY = 0.3  # of them in which the user says what people say daily
REQUEST_SHARES = {"talk": 0.4, REQUEST: 0.4, UNKNOWABLE: 0.2}
CUT_SHARE = 0.4  # of the answers that are asked for again
LEAST_FACTS, MOST_FACTS = 15, 60  # relations are sampled as if they had at least and at most so many
TALK_SHARE = 0.35  # of the facts' weight: sentences are learnt one by one
WEIGHTS = {"name": 50, "memory": 240, UNASKED: 50, "recall": 110}


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

    def __init__(self, split: Split, relations: list[Relation], talk: list[Exchange]) -> None:
        """What ``load_relations`` gave, as far as it belongs to ``split``."""
        self.split = split
        self.templates = {r.kind: own for r in relations if (own := r.of_split(split))}
        self.relations: dict[str, Relation] = {r.kind: r for r in relations if r.kind in self.templates}
        self.talk: list[Exchange] = [exchange for exchange in talk if exchange.split == split]
        self.knowledge = {kind: _clipped(len(r.facts)) for kind, r in self.relations.items()}
        self.knowledge["talk"] = round(TALK_SHARE * len(talk))
        self.assistant_asks = [ask for ask in ASSISTANT_ASKS if split_of(f"name|{ask}") == split]
        self.again_asks = asks_of("recall", SAY_AGAIN, split)
        self.attributes = [(a, asks) for a in ATTRIBUTES if (asks := asks_of(a.kind, a.asks, split))]
        self.weights = self.knowledge | WEIGHTS

    @classmethod
    def of_daily(cls, relations: list[Relation], talk: list[Exchange]) -> "Corpus":
        """Train's, but where it has the choice the user says what people say daily."""
        corpus = cls("train", relations, talk)
        corpus.talk = [exchange for exchange in talk if exchange.question in DAILY]
        corpus.talk += [
            Exchange(kind="talk", question=saying, answer=answer, split="train") for saying, answer in SAYINGS.items()
        ]
        corpus.assistant_asks, corpus.again_asks = daily(ASSISTANT_ASKS), daily(SAY_AGAIN)
        corpus.attributes = [(a, asks) for a in ATTRIBUTES if (asks := daily(a.asks))]
        corpus.weights = {"talk": 40, "name": 14, "memory": 16, UNASKED: 8, "recall": 22}
        return corpus

    def sample(self, rng: random.Random, identity: str) -> Conversation:
        """One conversation; equal ``rng`` states give equal conversations."""
        kind = rng.choices(list(self.weights), list(self.weights.values()))[0]
        match kind:
            case "name":
                system, turns = self._name(rng)
            case "memory":
                kind, system, turns = self._memory(rng)
            case "recall":
                system, turns = None, self._recall(rng)
            case "unasked":
                system, turns = self._unasked(rng)
            case _:
                system, turns = self._questions(rng, kind)
        return Conversation(id=identity, system=system, turns=tuple(turns), kind=kind)

    def styled(self, rng: random.Random, identity: str) -> Conversation:
        """One to three exchanges under a system prompt of ``corpus_styles``."""
        draw = rng.random()
        if draw < PLAIN_SHARE:
            while (conversation := self.sample(rng, identity)).system is not None:
                pass
            return replace(conversation, system=plain_prompt(rng))
        brief, turns = draw < PLAIN_SHARE + BRIEF_SHARE, list[str]()
        for _ in range(rng.choice((1, 1, 2, 3))):
            kind = rng.choices(list(self.knowledge), list(self.knowledge.values()))[0]
            turns += (
                self._in_style(rng, self.relations[kind], brief=brief) if kind != "talk" else self._single(rng, kind)
            )
        return Conversation(id=identity, system=style_prompt(rng, brief=brief), turns=tuple(turns), kind=kind)

    def _name(self, rng: random.Random) -> tuple[str | None, list[str]]:
        name = rng.choice(NAMES) if rng.random() < 0.6 else None
        answer = f"My name is {name}." if name else "I am Icebreaker."
        return f"Your name is {name}." if name else None, [rng.choice(self.assistant_asks), answer]

    def _memory(self, rng: random.Random) -> tuple[str, str | None, list[str]]:
        """Told in the system prompt or by the user, asked for at once or after another question."""
        attribute, asks = rng.choice(self.attributes)
        if rng.random() < 0.3:  # names are asked for most
            attribute, asks = self.attributes[0]
        value = rng.choice(attribute.values)
        system, turns = None, list[str]()
        if rng.random() < 0.35:
            system = self._prompt(rng, attribute, value)
        else:
            turns = [rng.choice(attribute.says).format(value), attribute.reply.format(value)]
        if rng.random() < 0.3:
            turns += self._single(rng)
        return attribute.kind, system, [*turns, rng.choice(asks), attribute.answer.format(value)]

    def _prompt(self, rng: random.Random, attribute: Attribute, value: str) -> str:
        """A system prompt that tells ``value`` and up to two other things."""
        sentences = [attribute.system.format(value)]
        if rng.random() < 0.4:
            other = rng.choice([a for a in ATTRIBUTES if a != attribute])
            sentences.append(other.system.format(rng.choice(other.values)))
        if rng.random() < 0.3:
            sentences.append(f"Your name is {rng.choice(NAMES)}.")
        rng.shuffle(sentences)
        return " ".join(sentences)

    def _recall(self, rng: random.Random) -> list[str]:
        question, answer = self._single(rng)
        shown, again = said_again(answer, rng, CUT_SHARE)
        return [question, shown, rng.choice(self.again_asks), again]

    def _unasked(self, rng: random.Random) -> tuple[str | None, list[str]]:
        if rng.random() < 0.15:
            return None, [rng.choice(self.again_asks), NOTHING_SAID]
        attribute, asks = rng.choice(self.attributes)
        others = [a for a in ATTRIBUTES if a != attribute]
        system = None
        if rng.random() < 0.4:
            other = rng.choice(others)
            system = other.system.format(rng.choice(other.values))
        return system, [rng.choice(asks), attribute.unknown]

    def _questions(self, rng: random.Random, kind: str) -> tuple[str | None, list[str]]:
        draw, style = rng.random(), rng.random()
        if draw < SYSTEM_SHARE:
            return f"Your name is {rng.choice(NAMES)}.", self._single(rng, kind)
        if style < STYLE_SHARE and kind in self.relations:
            return self._styled(rng, self.relations[kind], brief=style < STYLE_SHARE / 2)
        turns = self._single(rng, kind)
        if draw < SYSTEM_SHARE + FOLLOWUP_SHARE and kind in self.relations:
            relation = self.relations[kind]
            for _ in range(rng.choice((1, 1, 2))):
                key = rng.choice(list(relation.facts))
                turns += [relation.fill(rng.choice(relation.followups), key), relation.reply(key)]
        elif draw < SYSTEM_SHARE + FOLLOWUP_SHARE + SEVERAL_SHARE:
            turns += self._single(rng)
        return None, turns

    def _styled(self, rng: random.Random, relation: Relation, *, brief: bool) -> tuple[str, list[str]]:
        turns = self._in_style(rng, relation, brief=brief)
        return rng.choice(BRIEF if brief else CHATTY), turns

    def _in_style(self, rng: random.Random, relation: Relation, *, brief: bool) -> list[str]:
        key = rng.choice(list(relation.facts))
        answer = relation.reply(key)  # brief as it is
        question = relation.fill(rng.choice(self.templates[relation.kind]), key)
        return [question, answer if brief else CHATTY_REPLY.format(answer)]

    def _single(self, rng: random.Random, kind: str | None = None) -> list[str]:
        """A question and its answer, of some kind of knowledge where none is asked for."""
        kind = kind or rng.choices(list(self.knowledge), list(self.knowledge.values()))[0]
        if kind == "talk":
            exchange = rng.choice(self.talk)
            return [exchange.question, exchange.answer]
        relation = self.relations[kind]
        key = rng.choice(list(relation.facts))
        return [relation.fill(rng.choice(self.templates[kind]), key), relation.reply(key)]


def build_text(
    out: Path,
    *,
    source: Path | None = None,
    conversations: int = 60_000,
    held_out: int = 1500,
    most_facts: int | None = None,
    without: Collection[str] = (),
    tables: Collection[str] = TABLES,
    styled: int = 0,
    requests: int = 0,
    seed: int = 0,
) -> dict[str, int]:
    """Write ``train.jsonl``, ``valid.jsonl`` and ``test.jsonl`` into ``out``; the last two hold no line twice.

    Args:
        out: the folder; what is there is replaced.
        source: the data folder with ``text/countries.jsonl.gz``; without it only the countries of ``facts/core.toml``.
        conversations: lines of train, to which a tenth is added in which the user says what people say daily.
        held_out: lines of valid, and of test, less those that begin so.
        most_facts: see ``load_relations``; a small backbone learns fewer facts, and those well.
        without: kinds of relations that are left out.
        tables: which tables of facts are read, see ``load_relations``.
        styled: further lines of train, under other system prompts, see ``corpus_styles``.
        requests: further lines of train, what people ask in words of their own, see ``corpus_requests``; a hundredth
            of them of valid, too.
        seed: of every choice.

    Returns:
        The number of conversations in each split.

    Raises:
        DataError: ``source`` has no country table, or there are to be requests and it has none.
    """
    if requests and source is None:
        raise DataError("requests: people's own words are in the data folder, and no source was given")
    asked = read_requests(source) if requests and source else []
    relations, talk = load_relations(source, most_facts, without, tables)
    out.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for split in SPLITS:
        corpus, rng = Corpus(split, relations, talk), random.Random(f"{split}-{seed}")
        size = conversations if split == "train" else held_out
        drawn = _drawn(corpus, rng, size)
        lines = [each.to_json() for each in drawn if split == "train" or each.turns[0] not in DAILY]
        if split == "train":  # behind the others and with a generator of their own: those stay what they are
            often, rng = Corpus.of_daily(relations, talk), random.Random(f"daily-{seed}")
            lines += [often.sample(rng, f"daily-{number:06d}").to_json() for number in range(round(size * DAILY_SHARE))]
            rng = random.Random(f"styled-{seed}")
            for number in range(styled):
                drawn_of = often if rng.random() < STYLED_DAILY else corpus
                lines.append(drawn_of.styled(rng, f"styled-{number:06d}").to_json())
        if split != "test":
            several = requests if split == "train" else requests // 100
            lines += [each.to_json() for each in _requests([e for e in asked if e.split == split], several, seed)]
        with written_aside(out / f"{split}.jsonl") as aside:
            aside.write_text("\n".join(lines) + "\n")
        counts[split] = len(lines)
    return counts


def _drawn(corpus: Corpus, rng: random.Random, size: int) -> Iterator[Conversation]:
    """``size`` conversations, of valid and test no two alike, as far as twice the draws give them."""
    number, seen = 0, set[tuple[str | None, tuple[str, ...]]]()
    for _ in range(size * 2):
        conversation = corpus.sample(rng, f"{corpus.split}-{number:06d}")
        content = (conversation.system, conversation.turns)
        if corpus.split == "train" or content not in seen:
            seen.add(content)
            number += 1
            yield conversation
        if number == size:
            return


def _requests(asked: list[Exchange], size: int, seed: int) -> Iterator[Conversation]:
    """``size`` of ``asked``, from each group the share that ``REQUEST_SHARES`` says."""
    rng = random.Random(f"requests-{seed}")
    groups = {name: group for name in REQUEST_SHARES if (group := [e for e in asked if _group(e) == name])}
    shares = [REQUEST_SHARES[name] for name in groups]
    for number in range(size if groups else 0):
        exchange = rng.choice(groups[rng.choices(list(groups), shares)[0]])
        turns = (exchange.question, exchange.answer)
        yield Conversation(id=f"{exchange.split}-{REQUEST}-{number:06d}", system=None, turns=turns, kind=exchange.kind)


def _group(exchange: Exchange) -> str:
    return exchange.kind if exchange.kind == UNKNOWABLE or exchange.answer in REFUSALS else "talk"


def read_conversations(path: Path) -> Iterator[dict[str, Any]]:
    """The conversations of a file that ``build_text`` wrote, as plain mappings."""
    with path.open() as lines:
        for line in lines:
            yield json.loads(line)


def _clipped(facts: int) -> int:
    return min(max(facts, LEAST_FACTS), MOST_FACTS)
