"""Saying after, spelling and letters, as relations. Knows nothing of conversations or files."""

import hashlib
import itertools
from collections.abc import Iterator

from icebreaker.data.relations import Relation, phrased

__all__ = ["NOUNS", "word_relations"]

ADJECTIVES = (
    "red", "blue", "green", "big", "small", "old", "new", "hot", "cold", "happy", "nice", "little",
)  # fmt: skip
NOUNS = (
    "apple", "banana", "house", "car", "dog", "cat", "tree", "river", "mountain", "book", "table", "chair",
    "window", "door", "flower", "garden", "bird", "horse", "water", "bread", "cheese", "milk", "sugar", "coffee",
    "summer", "winter", "morning", "evening", "doctor", "teacher", "music", "paper", "train", "school", "kitchen",
    "bottle", "shoe", "shirt", "hat", "moon",
)  # fmt: skip
SPELLED = (
    "cat", "dog", "sun", "star", "sky", "sea", "boat", "fish", "cow", "pig", "bear", "lion", "mouse", "duck", "frog",
    "king", "ring", "hand", "foot", "eye", "nose", "head", "arm", "leg", "red", "blue", "green", "one", "two", "ten",
    "day", "night", "rain", "snow", "wind", "fire", "gold", "egg", "cake", "salt", "milk", "cup", "bed", "key", "box",
    "ball", "game", "song", "man", "boy", "girl", "bus", "ship", "road", "book", "tree", "house", "apple", "water",
    "love",
)  # fmt: skip
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PAIRS, SENTENCES = 200, 160


def word_relations() -> Iterator[Relation]:
    """Every relation about the letters or the sound of words."""
    yield from _repetition()
    yield from _spelling()


def _first_by_hash(sayings: list[str], size: int) -> list[str]:
    return sorted(sayings, key=lambda saying: hashlib.sha256(saying.encode()).digest())[:size]


def _repetition() -> Iterator[Relation]:
    pairs = [f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
    sentences = [f"the {noun} is {adjective}" for adjective in ADJECTIVES for noun in NOUNS]
    for kind, thing, sayings in (
        ("repeat", "the word", list(dict.fromkeys([*NOUNS, *SPELLED, *ADJECTIVES]))),
        ("repeat_pair", "the words", _first_by_hash(pairs, PAIRS)),
        ("repeat_sentence", "the sentence", _first_by_hash(sentences, SENTENCES)),
    ):
        yield Relation(
            kind=kind,
            templates=(f"Say {thing} {{x}}.", f"Please say {thing} {{x}}.", f"Can you say {thing} {{x}}?",
                       f"Repeat {thing} {{x}}.", f"Please repeat {thing} {{x}}.", f"Can you repeat {thing} {{x}}?",
                       "Repeat after me, {x}.", "Say {x}.", "Please say {x}.", "Just say {x}.", "Simply say {x}.",
                       "Please repeat {x}.", "Repeat {x}.", "Can you say {x}?", f"Now say {thing} {{x}}.",
                       f"I want you to say {thing} {{x}}.", f"Could you say {thing} {{x}}?"),
            followups=("And {x}?", "Now {x}.", "And now {x}."),
            answer="{Y}.",
            facts={saying: saying for saying in sayings},
        )  # fmt: skip


def _spelling() -> Iterator[Relation]:
    yield phrased(
        "spell", "{Y}.", {word: ", ".join(word.upper()) for word in SPELLED},
        nouns=["the spelling of {x}"],
        clauses=["how to spell {x}", "how {x} is spelled"],
        asks=["Spell {x}.", "Please spell {x}.", "How do you spell {x}?", "Spell the word {x}.", "How is {x} spelled?",
              "Can you spell {x}?", "Could you spell the word {x}?"],
        followups=["And {x}?", "Now spell {x}."],
    )  # fmt: skip
    yield phrased(
        "first_letter", "The first letter of {x} is {y}.", {word: word[0].upper() for word in SPELLED},
        nouns=["the first letter of {x}", "the first letter of the word {x}"],
        clauses=["which letter of {x} is the first"],
        asks=["Which is the first letter of {x}?", "Name the first letter of {x}.", "Which letter is first in {x}?"],
        followups=["And of {x}?", "And the first letter of {x}?"],
    )  # fmt: skip
    yield phrased(
        "next_letter", "{y} comes after {x}.", dict(itertools.pairwise(ALPHABET)),
        nouns=["the letter after {x}"],
        clauses=["which letter comes after {x}"],
        asks=["Which letter comes after {x}?", "What letter comes after {x}?", "Which letter follows {x}?"],
        followups=["And after {x}?"],
    )  # fmt: skip
