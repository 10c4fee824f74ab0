"""Arithmetic, counting, comparing, hours and days, as relations. Knows nothing of conversations or files."""

import hashlib
from collections.abc import Iterator, Sequence

from icebreaker.data.relations import Relation, phrased
from icebreaker.data.text import number_words

__all__ = ["number_relations"]

LARGEST_ADDEND = 10
LARGEST_FACTOR = 6
LAST_NUMBER = 40
TENS = range(10, 100, 10)
STORIES = 200  # of all combinations of numbers and things, chosen by hash
THINGS = ("apples", "books", "coins", "pens", "eggs", "cars", "cups", "dogs")
SIZES = (
    "an ant", "a mouse", "a cat", "a sheep", "a cow", "an elephant", "a whale", "a mountain", "the moon", "the Earth",
    "Jupiter", "the sun",
)  # fmt: skip
SPEEDS = ("a snail", "a turtle", "a child", "a horse", "a fast car", "a plane", "a rocket", "light")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def number_relations() -> Iterator[Relation]:
    """Every relation whose facts are computed."""
    yield from _sums()
    yield from _products()
    yield from _parts()
    yield from _order()
    yield from _comparisons()
    yield from _stories()
    yield from _clock()
    yield from _counting()


def _words(numbers: Sequence[int]) -> str:
    return "/".join(number_words(number) for number in numbers)


def _chosen(facts: dict[str, str], size: int) -> dict[str, str]:
    """``size`` of the facts, the same ones always."""
    kept = set(sorted(facts, key=lambda key: hashlib.sha256(key.encode()).digest())[:size])
    return {key: value for key, value in facts.items() if key in kept}


def _sums() -> Iterator[Relation]:
    small = [(a, b) for a in range(1, LARGEST_ADDEND + 1) for b in range(1, LARGEST_ADDEND + 1)]
    tens = [(a, b) for a in TENS for b in TENS if a + b <= 100]
    yield phrased(
        "sum", "{a} plus {b} is {y}.", {_words(pair): number_words(sum(pair)) for pair in small + tens},
        nouns=["{a} plus {b}", "the sum of {a} and {b}"],
        clauses=["how much {a} plus {b} is"],
        asks=["How much is {a} plus {b}?", "What does {a} plus {b} make?", "Add {a} and {b}.",
              "What do you get for {a} plus {b}?"],
        followups=["And {a} plus {b}?", "What about {a} plus {b}?"],
    )  # fmt: skip
    yield phrased(
        "difference", "{a} minus {b} is {y}.",
        {_words((a, b)): number_words(a - b) for a, b in small + [(a, b) for a in TENS for b in TENS] if a >= b},
        nouns=["{a} minus {b}"],
        clauses=["how much {a} minus {b} is"],
        asks=["How much is {a} minus {b}?", "What does {a} minus {b} make?", "Take {b} from {a}.",
              "What do you get for {a} minus {b}?"],
        followups=["And {a} minus {b}?", "What about {a} minus {b}?"],
    )  # fmt: skip


def _products() -> Iterator[Relation]:
    factors = [(a, b) for a in range(1, LARGEST_FACTOR + 1) for b in range(1, LARGEST_FACTOR + 1)]
    yield phrased(
        "product", "{a} times {b} is {y}.", {_words((a, b)): number_words(a * b) for a, b in factors},
        nouns=["{a} times {b}", "{a} multiplied by {b}", "the product of {a} and {b}"],
        clauses=["how much {a} times {b} is"],
        asks=["How much is {a} times {b}?", "What does {a} times {b} make?", "Multiply {a} by {b}.",
              "What do you get for {a} times {b}?"],
        followups=["And {a} times {b}?", "What about {a} times {b}?"],
    )  # fmt: skip
    yield phrased(
        "quotient", "{a} divided by {b} is {y}.", {_words((a * b, b)): number_words(a) for a, b in factors},
        nouns=["{a} divided by {b}"],
        clauses=["how much {a} divided by {b} is", "how often {b} goes into {a}"],
        asks=["How much is {a} divided by {b}?", "What does {a} divided by {b} make?", "Divide {a} by {b}.",
              "How often does {b} go into {a}?"],
        followups=["And {a} divided by {b}?", "What about {a} divided by {b}?"],
    )  # fmt: skip


def _parts() -> Iterator[Relation]:
    halves = [*range(1, 11), 20, 25, 30, 40, 50]
    for kind, noun, facts in (
        ("half", "half", {number_words(2 * n): number_words(n) for n in halves}),
        ("double", "double", {number_words(n): number_words(2 * n) for n in halves}),
    ):
        answer = "Half of {x} is {y}." if kind == "half" else "The double of {x} is {y}."
        of = f"{noun} of {{x}}" if kind == "half" else f"the {noun} of {{x}}"
        yield phrased(
            kind, answer, facts,
            nouns=[of],
            clauses=[f"how much {of} is"],
            asks=[f"How much is {of}?", f"Name {of}.", f"What number is {of}?"],
            followups=["And of {x}?", f"And {of}?"],
        )  # fmt: skip
    yield phrased(
        "parity", "{X} is {y}.", {number_words(n): "even" if n % 2 == 0 else "odd" for n in range(1, 21)},
        nouns=[],
        clauses=["whether {x} is odd or even", "if {x} is an odd or an even number"],
        asks=["Is {x} odd or even?", "Is {x} even or odd?", "Is {x} an odd or an even number?",
              "{X}, is that odd or even?"],
        followups=["And {x}?", "What about {x}?"],
    )  # fmt: skip


def _order() -> Iterator[Relation]:
    for kind, word, step in (("number_after", "after", 1), ("number_before", "before", -1)):
        yield phrased(
            kind, f"{{y}} comes {word} {{x}}.",
            {number_words(n): number_words(n + step) for n in range(1, LAST_NUMBER + 1)},
            nouns=[f"the number {word} {{x}}"],
            clauses=[f"which number comes {word} {{x}}"],
            asks=[f"Which number comes {word} {{x}}?", f"What number comes {word} {{x}}?", f"What comes {word} {{x}}?"],
            followups=[f"And {word} {{x}}?"],
        )  # fmt: skip


def _comparisons() -> Iterator[Relation]:
    """Pairs from lists in rising order."""
    numbers = [number_words(n) for n in [*range(1, 11), *range(20, 101, 20)]]
    for kind, word, rising, highest in (
        ("bigger", "bigger", SIZES, True), ("smaller", "smaller", SIZES, False),
        ("faster", "faster", SPEEDS, True), ("slower", "slower", SPEEDS, False), ("larger", "more", numbers, True),
    ):  # fmt: skip
        pairs = [(i, j) for i in range(len(rising)) for j in range(len(rising)) if i != j]
        facts = {f"{rising[i]}/{rising[j]}": rising[max(i, j) if highest else min(i, j)] for i, j in pairs}
        yield phrased(
            kind, f"{{y}} is {word}.", _chosen(facts, STORIES),
            nouns=[],
            clauses=[f"which is {word}, {{a}} or {{b}}", f"what is {word}, {{a}} or {{b}}"],
            asks=[f"Which is {word}, {{a}} or {{b}}?", f"What is {word}, {{a}} or {{b}}?",
                  f"Is {{a}} or {{b}} {word}?", f"Which one is {word}, {{a}} or {{b}}?",
                  f"{{A}} or {{b}}, which is {word}?", f"Tell me, which is {word}, {{a}} or {{b}}?",
                  f"Of {{a}} and {{b}}, which is {word}?"],
            followups=["And {a} or {b}?", "What about {a} or {b}?"],
        )  # fmt: skip


def _stories() -> Iterator[Relation]:
    pairs = [(a, b) for a in range(2, LARGEST_ADDEND + 1) for b in range(2, LARGEST_ADDEND + 1)]
    more = {f"{_words(p)}/{thing}": number_words(sum(p)) for p in pairs for thing in THINGS}
    fewer = {f"{_words(p)}/{thing}": number_words(p[0] - p[1]) for p in pairs for thing in THINGS if p[0] - p[1] > 1}
    yield phrased(
        "story_more", "You have {y} {c}.", _chosen(more, STORIES),
        nouns=[], clauses=[],
        asks=["I have {a} {c} and get {b} more. How many do I have?",
              "I have {a} {c} and buy {b} more. How many do I have now?",
              "If I have {a} {c} and find {b} more, how many do I have?",
              "I had {a} {c} and got {b} more. How many are there?",
              "There are {a} {c} here and {b} there. How many are there?",
              "I own {a} {c} and you give me {b}. How many do I have?",
              "With {a} {c} and {b} more {c}, how many do I have?",
              "First I have {a} {c}, then {b} more. How many is that?",
              "How many {c} do I have if I add {b} to {a}?",
              "I take {a} {c} and then {b} more. How many have I got?",
              "I see {a} {c} and then {b} more. How many is that?",
              "What is {a} {c} and {b} more {c} together?"],
        followups=["And with {a} {c} and {b} more?"],
    )  # fmt: skip
    yield phrased(
        "story_fewer", "You have {y} {c}.", _chosen(fewer, STORIES),
        nouns=[], clauses=[],
        asks=["I have {a} {c} and lose {b}. How many are left?",
              "I have {a} {c} and give away {b}. How many do I have now?",
              "If I have {a} {c} and sell {b}, how many are left?",
              "I had {a} {c} and lost {b}. How many do I have?",
              "There were {a} {c} and {b} are gone. How many are left?",
              "I own {a} {c} and give you {b}. How many are left?",
              "From my {a} {c} I take {b} away. How many are left?",
              "How many {c} are left if I lose {b} of {a}?",
              "I have {a} {c} and {b} get lost. How many remain?",
              "I take {b} of my {a} {c} away. How many remain?"],
        followups=["And with {a} {c} if I lose {b}?"],
    )  # fmt: skip


def _clock() -> Iterator[Relation]:
    hours = {f"{number_words(h)}/{number_words(n)}": number_words((h + n - 1) % 12 + 1)
             for h in range(1, 13) for n in range(2, 6)}  # fmt: skip
    yield phrased(
        "hours_later", "It will be {y} o'clock.", hours,
        nouns=["the time {b} hours after {a} o'clock"],
        clauses=["what time it is {b} hours after {a} o'clock"],
        asks=["What time is it {b} hours after {a} o'clock?", "It is {a} o'clock. What time is it in {b} hours?",
              "It is {a} now. What time will it be in {b} hours?", "Add {b} hours to {a} o'clock.",
              "If it is {a} o'clock, what time is it in {b} hours?"],
        followups=["And {b} hours after {a}?"],
    )  # fmt: skip
    days = {f"{day}/{number_words(n)}": DAYS[(i + n) % 7] for i, day in enumerate(DAYS) for n in range(2, 5)}
    yield phrased(
        "days_later", "{b} days after {a} is {y}.", days,
        nouns=["the day {b} days after {a}"],
        clauses=["which day is {b} days after {a}"],
        asks=["Which day is {b} days after {a}?", "What day is it {b} days after {a}?",
              "Today is {a}. What day is it in {b} days?", "If today is {a}, which day is in {b} days?"],
        followups=["And {b} days after {a}?"],
    )  # fmt: skip


def _counting() -> Iterator[Relation]:
    words = [number_words(n) for n in range(1, 21)]
    yield Relation(
        kind="count",
        templates=("Count to {x}.", "Please count to {x}.", "Can you count to {x}?", "Could you count to {x}?",
                   "I want you to count to {x}.", "Count from one to {x}.", "Now count to {x}.",
                   "Please count from one to {x}.", "Can you count from one to {x}?"),
        followups=("And to {x}?",),
        answer="{y}.",
        facts={words[end - 1]: ", ".join(words[:end]) for end in range(2, LARGEST_ADDEND + 1)},
    )  # fmt: skip
    yield Relation(
        kind="count_down",
        templates=("Count down from {x}.", "Please count down from {x}.", "Can you count down from {x}?",
                   "Could you count down from {x}?", "Count backwards from {x}.", "Please count backwards from {x}.",
                   "Now count down from {x}.", "Can you count backwards from {x}?", "Count from {x} down to one.",
                   "I want you to count down from {x}.", "Make a countdown from {x}."),
        followups=("And down from {x}?",),
        answer="{y}.",
        facts={words[end - 1]: ", ".join(reversed(words[:end])) for end in range(3, LARGEST_ADDEND + 1)},
    )  # fmt: skip
    yield phrased(
        "count_from", "{y}.",
        {f"{words[a]}/{words[b]}": ", ".join(words[a : b + 1]) for a in range(1, 14) for b in range(a + 3, a + 6)},
        nouns=[],
        clauses=["how to count from {a} to {b}", "the numbers from {a} to {b}"],
        asks=["Count from {a} to {b}.", "Please count from {a} to {b}.", "Can you count from {a} to {b}?",
              "Say the numbers from {a} to {b}.", "Name the numbers from {a} to {b}."],
        followups=["And from {a} to {b}?"],
    )  # fmt: skip
