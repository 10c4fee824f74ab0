"""Where the sentences that are spoken come from: our own conversations, and sets of others. Knows no voice or audio."""

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from icebreaker.data.corpus import read_conversations
from icebreaker.data.corpus_memory import was_cut
from icebreaker.data.corpus_requests import REQUEST, UNKNOWABLE
from icebreaker.data.gzipped import read_gzip
from icebreaker.data.relations import split_of
from icebreaker.data.text import is_speakable, normalise

__all__ = [
    "REQUEST_FILES", "Asked", "asked_and_others", "breadth", "chat_sentences", "distinct_answers", "draw", "levelled",
    "requests", "word_lists",
]  # fmt: skip

SPLITS = ("train", "valid", "test")
REQUEST_FILES = ("clinc-utterances", "slurp-sentences", "snips-queries")
FEWEST_WORDS, MOST_WORDS = 3, 11
FEWEST_LISTED, MOST_LISTED = 3, 6
COMMAS = 0.5  # of the lists


class Asked(NamedTuple):
    """What a user says, and what is answered in which conversation, where it is from one."""

    text: str
    answer: str | None = None
    conversation: str | None = None


def asked_and_others(
    conversations: Path, others: Sequence[str], size: int, other_share: float, rng: random.Random
) -> list[Asked]:
    """``size`` first questions of a file of conversations and, to a share of it, other sentences; fewer if there are.

    A first question counts once, and only where no system prompt has set the scene.
    """
    asked = _first_questions(conversations)
    rng.shuffle(asked)
    asked = asked[: size - round(size * other_share)]
    return asked + [Asked(sentence) for sentence in draw(others, size - len(asked), rng)]


def levelled(conversations: Path, spoken: Iterable[str], size: int, rng: random.Random) -> list[Asked]:
    """``size`` first questions, each drawn for the word that has been said least, so that all come to be said as often.

    Every distinct question once is hundreds of times "the capital of" and a few times each country: ears miss the words
    that they have heard a few dozen times, and no others. The same question may come many times, for many voices.

    Args:
        conversations: a file of them.
        spoken: what is said already.
        size: how many.
        rng: of every choice.
    """
    asked = _first_questions(conversations)
    with_word: dict[str, list[Asked]] = defaultdict(list)
    for question in asked:
        for word in set(normalise(question.text).split()):
            with_word[word].append(question)
    uses = Counter(word for sentence in spoken for word in set(normalise(sentence).split()))
    waiting = [(uses[word], word) for word in with_word]
    heapq.heapify(waiting)
    drawn = list[Asked]()
    while waiting and len(drawn) < size:
        count, word = heapq.heappop(waiting)
        if count < uses[word]:  # it was said with another since
            heapq.heappush(waiting, (uses[word], word))
            continue
        drawn.append(rng.choice(with_word[word]))
        uses.update(set(normalise(drawn[-1].text).split()))
        heapq.heappush(waiting, (uses[word], word))
    return drawn


def word_lists(conversations: Path, size: int, rng: random.Random) -> list[str]:
    """``size`` lists of three to six words of the first questions, every word about as often as any other.

    An LLM's token for a whole word has to be heard some hundred times before ears know it, and a question holds one
    seldom word at most.
    """
    words = sorted({word for asked in _first_questions(conversations) for word in normalise(asked.text).split()})
    waiting, lists = list[str](), list[str]()
    for _ in range(size):
        while len(waiting) < MOST_LISTED:
            waiting += rng.sample(words, len(words))
        count = rng.randint(FEWEST_LISTED, MOST_LISTED)
        listed, waiting = waiting[:count], waiting[count:]
        lists.append((", " if rng.random() < COMMAS else " ").join(listed))
    return lists


def distinct_answers(text: Path) -> list[str]:
    """Every different answer in the conversations of the folder ``text``, all splits together."""
    answers: dict[str, None] = {}
    for split in SPLITS:
        for conversation in read_conversations(text / f"{split}.jsonl"):
            answers |= dict.fromkeys(turn["text"] for turn in conversation["turns"][1::2])
    return list(answers)


def requests(source: Path) -> dict[str, list[str]]:
    """Requests to voice assistants, by the split of their hash.

    Raises:
        DataError: a file is missing or damaged.
    """
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in REQUEST_FILES:
        for row in read_gzip(source / "text" / f"{name}.jsonl.gz"):
            if _is_short(row["text"]):
                splits[split_of(row["text"])].append(row["text"])
    return splits


def breadth(source: Path) -> list[str]:
    """Chat sentences, then simple questions: what people say besides requests.

    Raises:
        DataError: a file is missing or damaged.
    """
    rows = read_gzip(source / "text" / "simple-questions.jsonl.gz")
    return chat_sentences(source) + list(dict.fromkeys(row["question"] for row in rows if _is_short(row["question"])))


def chat_sentences(source: Path) -> list[str]:
    """Turns of chats that are one short plain sentence.

    Raises:
        DataError: the file is missing or damaged.
    """
    sentences: dict[str, None] = {}
    for row in read_gzip(source / "text" / "synthetic-persona-chat.jsonl.gz"):
        for line in row["conversation"]:
            sentence = line.partition(": ")[2].strip()
            if _is_short(sentence) and sentence.endswith(".") and sentence.count(".") == 1:
                sentences.setdefault(sentence)
    return list(sentences)


def draw(sentences: Sequence[str], number: int, rng: random.Random) -> list[str]:
    """``number`` of ``sentences`` in random order; all of them where there are fewer."""
    return rng.sample(sentences, min(number, len(sentences)))


def _first_questions(path: Path) -> list[Asked]:
    found: dict[str, Asked] = {}
    for conversation in read_conversations(path):
        if conversation.get("kind") in (REQUEST, UNKNOWABLE):  # ``requests`` and ``breadth`` have these
            continue
        question, answer = (turn["text"] for turn in conversation["turns"][:2])
        if conversation["system"] is None and (question not in found or found[question].answer is None):
            found[question] = Asked(question, None if was_cut(answer) else answer, conversation["id"])
    return list(found.values())


def _is_short(text: str) -> bool:
    return is_speakable(text) and FEWEST_WORDS <= len(text.split()) <= MOST_WORDS
