"""Written conversations as training batches: ids, masks, loss weights. Knows nothing of models or optimizers."""

import functools
import json
import random
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from icebreaker.data.corpus import UNASKED
from icebreaker.data.corpus_memory import was_cut
from icebreaker.data.text import normalise
from icebreaker.errors import DataError
from icebreaker.training.heard_rows import PAUSE, HeardRows, read_heard
from icebreaker.training.mishearing import Confusions, confusable_tokens, mishear

__all__ = [
    "DEFAULT_SYSTEM",
    "Conversation",
    "MixConfig",
    "TextBatch",
    "batches_from",
    "heard_ids",
    "paced",
    "plain",
    "read_conversations",
]

DEFAULT_SYSTEM = "You are a helpful assistant."
SPEECH_IS_PLAIN = 0.8  # of paced turns, without case and punctuation
POOL_BATCHES = 16  # batches that are sorted by length together: little padding, and still a random order


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """How conversations become batches."""

    batch_conversations: int = 12
    repeats: Mapping[str, int] = field(default_factory=dict)  # by kind: how often an epoch has its conversations
    join_probability: float = 0.3  # conversations of one system prompt, joined: contexts longer than any in the data
    plain_probability: float = 0.4  # user turns without case and punctuation: what speech sounds like
    default_system_probability: float = 0.7  # where the data leaves the system prompt open; else there is none
    user_weight: float = 0.1  # of a user token's loss, against 1 for an assistant's
    paced_probability: float = 0.0  # user turns at the pace of speech, see ``paced``
    leading_space: bool = False  # paced user turns begin with a space: the first word is the token it is anywhere else
    mishear: float = 0.0  # of a paced turn's tokens at most; each turn draws its own share, see ``mishearing.py``
    heard: Path | None = None  # of stage heard_text: a paced turn that ears have heard is mostly as they heard it
    heard_probability: float = 0.7
    max_tokens: int = 2048  # of a row

    def __post_init__(self) -> None:
        for name in ("join_probability", "mishear"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a share from 0 to below 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Conversation:
    """Alternating turns, the user first; ``system`` is None where the data leaves it open."""

    kind: str
    system: str | None
    turns: tuple[tuple[str, str], ...]  # (role, text)


class TextBatch(NamedTuple):
    """Padded token ids [B, L], attention mask [B, L], and the weight [B, L] of predicting each token."""

    ids: Tensor
    mask: Tensor
    weights: Tensor


def read_conversations(path: Path) -> list[Conversation]:
    """Read one conversation a line.

    Raises:
        DataError: the file is missing, empty or has a line that is no conversation.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: expected a JSONL file of conversations: {error}; write the text data first"
        ) from error
    conversations = [_conversation(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not conversations:
        raise DataError(f"{path}: holds no conversation")
    return conversations


def batches_from(
    conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerFast, mix: MixConfig, seed: int
) -> Callable[[int], Iterator[TextBatch]]:
    """The endless stream of batches from any micro-batch on: batch i depends on (seed, i) only."""
    confusions = confusable_tokens(tokenizer) if mix.mishear else {}
    heard = read_heard(mix.heard) if mix.heard else {}
    conversations = [each for each in conversations for _ in range(mix.repeats.get(each.kind, 1))]
    by_system: dict[str | None, list[Conversation]] = {}
    for conversation in conversations:
        by_system.setdefault(conversation.system, []).append(conversation)

    @functools.lru_cache(maxsize=1)  # one process of several asks for one batch at a time
    def pool(index: int) -> list[TextBatch]:
        rng = random.Random(f"{seed}/{index}")
        count = POOL_BATCHES * mix.batch_conversations
        order = list(_epoch_slice(len(conversations), index * count, count, seed))
        encoded = [
            _encode(_joined(conversations[i], by_system, mix, rng), tokenizer, mix, rng, confusions, heard)
            for i in order
        ]
        encoded.sort(key=lambda row: len(row[0]))
        batches = [_pad(encoded[i : i + mix.batch_conversations]) for i in range(0, count, mix.batch_conversations)]
        rng.shuffle(batches)
        return batches

    def stream(start: int) -> Iterator[TextBatch]:
        index, skip = divmod(start, POOL_BATCHES)
        while True:
            yield from pool(index)[skip:]
            index, skip = index + 1, 0

    return stream


def _conversation(line: str, where: str) -> Conversation:
    try:
        row: dict[str, Any] = json.loads(line)
        turns = tuple((turn["role"], turn["text"]) for turn in row["turns"])
        kind, system = row.get("kind", "other"), row.get("system")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: expected an object with turns of role and text: {error!r}") from error
    if not turns or [role for role, _ in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise DataError(f"{where}: expected turns of user and assistant in alternation, the user first")
    return Conversation(kind, system, turns)


def _epoch_slice(size: int, start: int, count: int, seed: int) -> Iterator[int]:
    """Indices ``start`` .. ``start + count`` of an endless sequence of shuffled epochs."""
    epoch, position = divmod(start, size)
    order: list[int] = []
    for _ in range(count):
        if not order:
            order = list(range(size))
            random.Random(f"{seed}/epoch/{epoch}").shuffle(order)
        yield order[position]
        position += 1
        if position == size:
            epoch, position, order = epoch + 1, 0, []


def _joined(
    first: Conversation, by_system: Mapping[str | None, list[Conversation]], mix: MixConfig, rng: random.Random
) -> Conversation:
    turns = list(first.turns)
    while first.kind != UNASKED and rng.random() < mix.join_probability and len(turns) < 16:
        other = rng.choice(by_system[first.system])
        turns += other.turns if other.kind != UNASKED else ()
    return Conversation(first.kind, first.system, tuple(turns))


def _encode(
    conversation: Conversation,
    tokenizer: PreTrainedTokenizerFast,
    mix: MixConfig,
    rng: random.Random,
    confusions: Confusions,
    heard: HeardRows,
) -> tuple[list[int], list[float]]:
    """Token ids and loss weights; the template's own tokens weigh 0, the end of an answer 1.

    An answer that was cut short before the talk went on (``corpus_memory.said_again``) has an end that weighs 0: the
    LLM would learn to stop there itself.
    """
    system = conversation.system
    if system is None and rng.random() < mix.default_system_probability:
        system = DEFAULT_SYSTEM
    at_pace = mix.paced_probability > 0 and rng.random() < mix.paced_probability
    spoken = rng.random() < (mix.plain_probability if not at_pace else SPEECH_IS_PLAIN)
    pieces = [(_ids(tokenizer, f"<|im_start|>system\n{system}<|im_end|>\n"), 0.0)] if system else []
    for number, (role, text) in enumerate(conversation.turns, start=1):
        weight = 1.0 if role == "assistant" else mix.user_weight
        said = (_ids(tokenizer, plain(text) if spoken and role == "user" else text), weight)
        rows = heard.get(normalise(text)) if role == "user" and at_pace else None
        if rows and rng.random() < mix.heard_probability:
            said = ([tokenizer.pad_token_id if each == PAUSE else each for each in rng.choice(rows)], 0.0)
        elif role == "user" and at_pace and mix.leading_space:
            said = (paced(heard_ids(text, tokenizer, confusions, mix.mishear, rng), tokenizer.pad_token_id, rng), 0.0)
        elif role == "user" and at_pace:
            said = (paced(said[0], tokenizer.pad_token_id, rng), 0.0)
        pieces += [(_ids(tokenizer, f"<|im_start|>{role}\n"), 0.0), said]
        cut = role == "assistant" and number < len(conversation.turns) and was_cut(text)
        pieces += [(_ids(tokenizer, "<|im_end|>"), 0.0 if cut else weight), (_ids(tokenizer, "\n"), 0.0)]
    ids = [each for piece, _ in pieces for each in piece]
    weights = [weight for piece, weight in pieces for _ in piece]
    return ids[: mix.max_tokens], weights[: mix.max_tokens]


def heard_ids(
    text: str, tokenizer: PreTrainedTokenizerFast, confusions: Confusions, mishear_most: float, rng: random.Random
) -> list[int]:
    """A user turn as the ears write it: lower case, no marks, a space before the first word, some tokens misheard."""
    ids = _ids(tokenizer, f" {normalise(text)}")
    return mishear(ids, confusions, rng.uniform(0, mishear_most), rng) if mishear_most else ids


def paced(ids: Sequence[int], filler: int, rng: random.Random) -> list[int]:
    """A user's tokens as speech will bring them: fillers before, between and after, now and then a token twice.

    An adapter gives 12.5 vectors a second whether or not a word is being said. A large LLM reads past the empty ones;
    a small one has to have seen some. The filler is the padding token, which is fed as a zero vector.
    """
    row = [filler] * rng.randint(0, 14)
    for each in ids:
        row += [each] * (2 if rng.random() < 0.15 else 1) + [filler] * rng.choice((0, 0, 1, 1, 2, 2, 3, 4, 6))
    return row + [filler] * rng.randint(0, 8)


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _pad(rows: Sequence[tuple[list[int], list[float]]]) -> TextBatch:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    weights = torch.zeros(len(rows), width)
    for i, (row, weight) in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)], weights[i, : len(row)] = torch.tensor(row), 1, torch.tensor(weight)
    return TextBatch(ids, mask, weights)


def plain(text: str) -> str:
    """Lower case, no punctuation (a minus or an apostrophe inside a word stays), single spaces."""
    return " ".join(word.strip(string.punctuation.replace("-", "")) for word in text.lower().split()).strip()
