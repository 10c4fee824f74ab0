"""Tokens that sound alike, and user turns as imperfect ears would write them. Knows nothing of models or batches.

The ears of a small model err at one token in ten or four. A backbone that has only read clean text takes each error at
its word; one that was trained on errors of the same kind answers what was probably meant.
"""

import difflib
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from transformers import PreTrainedTokenizerFast

__all__ = ["Confusions", "confusable_tokens", "mishear"]

Confusions = Mapping[int, Sequence[int]]

SOUNDS = str.maketrans({
    **dict.fromkeys("aeiouy", "a"), **dict.fromkeys("ckqgx", "k"), **dict.fromkeys("szj", "s"),
    **dict.fromkeys("td", "t"), **dict.fromkeys("pb", "p"), **dict.fromkeys("fv", "f"), **dict.fromkeys("mn", "m"),
    **dict.fromkeys("lr", "l"), **dict.fromkeys("hw'", None),
})  # fmt: skip
MOST_CONFUSIONS = 6
REPLACED, DROPPED = 0.6, 0.25  # of the errors; the rest are doubled


def confusable_tokens(tokenizer: PreTrainedTokenizerFast) -> Confusions:
    """For each token of lower-case letters up to six others that sound like it, the most alike first.

    Two tokens sound alike where their consonants, in classes such as t and d, differ by at most one left out. The same
    letters with and without a space before them are alike too: ears miss word boundaries.
    """
    texts = {i: tokenizer.decode([i]) for i in range(len(tokenizer))}
    words = {i: text.strip() for i, text in texts.items() if text.strip().isalpha() and text == text.lower()}
    alike = defaultdict[str, set[int]](set)
    for i, word in words.items():
        for key in _left_out(_skeleton(word)):
            alike[key].add(i)
    found = {}
    for i, word in words.items():
        others = {j for key in _left_out(_skeleton(word)) for j in alike[key]} - {i}
        ranked = sorted(others, key=lambda j: (-_likeness(texts[i], texts[j]), j))
        if ranked:
            found[i] = tuple(ranked[:MOST_CONFUSIONS])
    return found


def mishear(ids: Sequence[int], confusions: Confusions, share: float, rng: random.Random) -> list[int]:
    """``ids`` where each is misheard with probability ``share``: replaced by an alike one, dropped, or doubled."""
    heard: list[int] = []
    for each in ids:
        if rng.random() >= share:
            heard.append(each)
            continue
        draw = rng.random()
        if draw < REPLACED:
            heard.append(rng.choice(confusions.get(each, (each,))))
        elif draw >= REPLACED + DROPPED:
            heard += [each, each]
    return heard


def _skeleton(word: str) -> str:
    """Classes of sounds, each run of one class once."""
    sounds = word.translate(SOUNDS)
    return "".join(sound for i, sound in enumerate(sounds) if i == 0 or sounds[i - 1] != sound)


def _left_out(skeleton: str) -> Iterator[str]:
    yield skeleton
    if len(skeleton) > 2:
        yield from (skeleton[:i] + skeleton[i + 1 :] for i in range(len(skeleton)))


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
