"""Answers and their codes as batches for the speech decoder, each a function of (seed, batch number).

A reply is spoken in segments cut between words (``text.segment``), so training sees whole answers, and, where word
times are known, their beginnings and ends, too. Knows nothing of the decoder or its loss.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from icebreaker.data.corpus import read_conversations
from icebreaker.data.manifest import read_manifest
from icebreaker.errors import DataError
from icebreaker.models.llm import LLM
from icebreaker.training.answer_states import AnswerStates
from icebreaker.training.devices import moved
from icebreaker.training.word_times import WordTime, read_word_times

__all__ = ["Answer", "AnswerConfig", "AnswerSource", "CodecLMBatch", "Piece", "Take"]

PAUSE = -1  # no word is being spoken


@dataclass(frozen=True, kw_only=True)
class AnswerConfig:
    """Where answers, codes and word times lie, and how batches are drawn."""

    answers: Path  # manifest
    codes: Path  # {"id", "delay_s", "codes"} a line, as stage codec leaves them; all delays of a recording are drawn
    word_times: Path | None = None  # from training.align_words
    frame_rate: float = 40.0  # codes per second
    rows: int = 8
    pool: int = 4  # batches' worth of pieces that are sorted by length together
    alike: int = 1  # batches in a row whose pieces are about as long: set it to the processes that take a step together
    part_share: float = 0.4  # of the pieces are the beginning or the end of an answer
    space_share: float = 0.3  # of the whole answers follow other text, so a space comes first
    conversations: Path | None = None  # folder of text conversations: what the LLM says there ...
    conversation_share: float = 0.5  # ... is drawn with this share, other sentences with the rest

    def __post_init__(self) -> None:
        if min(self.rows, self.pool, self.alike) < 1:
            raise ValueError(f"rows {self.rows}, pool {self.pool} and alike {self.alike} must be at least 1")


class Take(NamedTuple):
    """The codes of one recording, begun so late."""

    delay_s: float
    codes: Tensor  # [T]


class Answer(NamedTuple):
    """One recording of the assistant's voice."""

    text: str
    takes: list[Take]  # at least one
    words: list[WordTime]  # empty where unknown


class Piece(NamedTuple):
    """What is spoken in one go: characters ``first`` to ``last`` of an answer, and that stretch of a take's codes."""

    answer: int
    take: int
    first: int
    last: int
    start: int  # code
    stop: int  # code, exclusive
    text: str


class CodecLMBatch(NamedTuple):
    """Padded rows; T codes, L text tokens, P hidden states."""

    text: Tensor  # [B, L, D] embeddings of the frozen LLM
    text_lengths: Tensor  # [B]
    codes: Tensor  # [B, T]
    code_lengths: Tensor  # [B]
    first: Tensor  # [B, T + 1] first text token of the word spoken at each step, PAUSE where none is known
    last: Tensor  # [B, T + 1] the token after its last one
    prefix: Tensor | None  # [B, P, D] hidden states of the frozen LLM, where they take part
    prefix_lengths: Tensor | None  # [B]


class AnswerSource:
    """The answers of one split, and random batches of pieces of them."""

    def __init__(
        self,
        config: AnswerConfig,
        split: str,
        llm: LLM,
        states: AnswerStates | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Batches come on ``device``, wherever ``llm`` is. Raise DataError where no answer has codes."""
        self.config = config
        self.llm = llm
        self.states = states
        self.device = torch.device(device)
        codes = _read_codes(config.codes)
        times = read_word_times(config.word_times) if config.word_times else {}
        items = read_manifest(config.answers, split)
        self.answers = [Answer(item.text, codes[item.id], times.get(item.id, [])) for item in items if item.id in codes]
        if not self.answers:
            raise DataError(
                f"{config.codes}: no codes for any {split!r} recording of {config.answers}; run stage codec"
            )
        self.said = self._said()

    def batches(self, first: int, seed: int) -> Iterator[CodecLMBatch]:
        """Endless batches from number ``first`` on."""
        while True:
            rng = np.random.default_rng((seed, first))
            rows, pool = self.config.rows, self.config.pool
            pieces = sorted((self.draw(rng) for _ in range(rows * pool)), key=lambda piece: piece.stop - piece.start)
            start = int(np.random.default_rng((seed, first // self.config.alike, 1)).integers(pool)) * rows
            yield self.batch(pieces[start : start + rows], int(rng.integers(1 << 30)))
            first += 1

    def whole(self, count: int) -> Iterator[CodecLMBatch]:
        """The first ``count`` answers, whole and in order, for evaluation."""
        pieces = [self.piece(index, 0, None) for index in range(min(count, len(self.answers)))]
        for start in range(0, len(pieces), self.config.rows):
            yield self.batch(pieces[start : start + self.config.rows], 0)

    def draw(self, rng: np.random.Generator) -> Piece:
        """A whole answer, its beginning or its end."""
        index = int(rng.integers(len(self.answers)))
        if self.said and rng.random() < self.config.conversation_share:
            index = self.said[int(rng.integers(len(self.said)))]
        words, takes = len(self.answers[index].words), len(self.answers[index].takes)
        take = int(rng.integers(takes))
        if words < 2 or rng.random() >= self.config.part_share:
            return self.piece(index, 0, None, space=rng.random() < self.config.space_share, take=take)
        cut = int(rng.integers(1, words))
        return self.piece(index, 0, cut, take=take) if rng.random() < 0.5 else self.piece(index, cut, None, take=take)

    def _said(self) -> list[int]:
        """The answers that the LLM gives in the conversations, if those are known."""
        if self.config.conversations is None:
            return []
        conversations = read_conversations(self.config.conversations / "train.jsonl")
        texts = {turn["text"] for each in conversations for turn in each["turns"][1::2]}
        return [index for index, answer in enumerate(self.answers) if answer.text in texts]

    def piece(self, index: int, first: int, last: int | None, *, space: bool = False, take: int = 0) -> Piece:
        """Words ``first`` to ``last`` of answer ``index``; a piece that follows other text begins with a space."""
        text, takes, words = self.answers[index]
        delay_s, codes = takes[take]
        begin, start = (words[first].first, self._code(words[first].start_s + delay_s)) if first else (0, 0)
        end, stop = len(text), len(codes)
        if last is not None:
            end, stop = words[last].first, min(self._code(words[last].start_s + delay_s), stop)
        spoken = text[begin:end].rstrip()
        return Piece(index, take, begin, end, start, stop, " " + spoken if first or space else spoken)

    @torch.no_grad()
    def batch(self, pieces: list[Piece], seed: int) -> CodecLMBatch:
        """Pad ``pieces``; ``seed`` chooses the conversation that hidden states come from."""
        texts, spans, codes, prefixes = [], [], [], []
        reader = self.llm.embedding.weight.device
        for piece in pieces:
            encoded = self.llm.tokenizer(piece.text, add_special_tokens=False, return_offsets_mapping=True)
            texts.append(self.llm.embed(torch.tensor([encoded["input_ids"]], device=reader))[0])
            codes.append(self.answers[piece.answer].takes[piece.take].codes[piece.start : piece.stop])
            spans.append(self._spans(piece, encoded["offset_mapping"]))
            if self.states is not None:
                answer = self.answers[piece.answer].text
                prefixes.append(self.states.of(answer, piece.first, piece.last, seed))
        first, last = pad_sequence(spans, batch_first=True, padding_value=PAUSE).unbind(dim=-1)
        prefix = pad_sequence(prefixes, batch_first=True) if self.states is not None else None
        batch = CodecLMBatch(
            pad_sequence(texts, batch_first=True), _lengths(texts),
            pad_sequence(codes, batch_first=True), _lengths(codes), first, last,
            prefix, _lengths(prefixes) if self.states is not None else None,
        )  # fmt: skip
        return moved(batch, self.device)

    def _spans(self, piece: Piece, offsets: list[tuple[int, int]]) -> Tensor:
        """[T + 1, 2] first and last text token of the word spoken at each code."""
        spans = torch.full((piece.stop - piece.start + 1, 2), PAUSE)
        shift = len(piece.text) - len(piece.text.lstrip()) - piece.first
        delay_s = self.answers[piece.answer].takes[piece.take].delay_s
        for word in self.answers[piece.answer].words:
            if not piece.first <= word.first < piece.last:
                continue
            tokens = [i for i, (a, b) in enumerate(offsets) if a < word.last + shift and b > word.first + shift]
            begin, end = (self._code(time_s + delay_s) - piece.start for time_s in (word.start_s, word.end_s))
            spans[max(begin, 0) : max(end, 0), 0] = tokens[0]
            spans[max(begin, 0) : max(end, 0), 1] = tokens[-1] + 1
        spans[-1] = PAUSE  # eos
        return spans

    def _code(self, seconds: float) -> int:
        return round(seconds * self.config.frame_rate)


def _lengths(rows: list[Tensor]) -> Tensor:
    return torch.tensor([len(row) for row in rows])


def _read_codes(path: Path) -> dict[str, list[Take]]:
    takes = dict[str, list[Take]]()
    try:
        for row in map(json.loads, path.read_text().splitlines()):
            takes.setdefault(row["id"], []).append(Take(row.get("delay_s", 0.0), torch.tensor(row["codes"])))
        return takes
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot read codes: {error}; run stage codec first") from error
