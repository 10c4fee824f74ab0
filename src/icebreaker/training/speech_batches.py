"""Batches of speech as a pure function of (seed, index): any step of a run can be made again. Knows nothing of models.

Rows of one batch are neighbours in length, so little is padding; human recordings take part with a set weight.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icebreaker.data.features import FeatureStore, Row
from icebreaker.data.manifest import Item
from icebreaker.errors import DataError
from icebreaker.training.feature_augment import FeatureAugmentConfig, augment

__all__ = ["SpeechBatch", "SpeechConfig", "SpeechSource"]

SELDOM = 30  # a word in fewer recordings may be a slip or a name that nobody needs


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Where speech comes from and how it is cut."""

    questions: str  # manifest
    question_features: str  # folder of stored features
    human: str | None = None
    human_features: str | None = None
    human_weight: float = 0.2  # share of human recordings in training batches
    sentences: str | None = None  # more synthetic speech, that nobody answers
    sentence_features: str | None = None
    natural: str | None = None  # neural voices: questions and sentences
    natural_features: str | None = None
    natural_weight: float = 0.3  # share of them in training batches
    words: str | None = None  # lists of the words that matter
    word_features: str | None = None
    words_weight: float = 0.2  # share of them in training batches
    revoiced: str | None = None  # some of all of these in voices nobody has heard
    revoiced_features: str | None = None
    revoiced_weight: float = 0.3  # share of them in training batches
    answered_share: float | None = None  # of the other synthetic speech, that with an answer; default: as it comes
    rare_words: float = 0.0  # weight of a recording within its kind: uses of its rarest word to the power of minus this
    frames_per_batch: int = 5000  # fbank frames, padding included: 10 ms each
    max_lead_frames: int = 64  # silence kept in front, drawn uniformly
    max_tail_frames: int = 32  # and behind
    frame_multiple: int = 4  # lengths are a multiple of this
    max_frames: int = 1200  # longer recordings stay out
    seed: int = 0
    augment: FeatureAugmentConfig = field(default_factory=FeatureAugmentConfig)  # of training batches


@dataclass(frozen=True)
class SpeechBatch:
    """Padded features and what they are of; ``seed`` feeds every random choice made with the batch."""

    fbank: Tensor  # [B, T, 80]
    lengths: Tensor  # [B], fbank frames
    speech_starts: list[int]
    speech_ends: list[int]  # fbank frame, of the padded row, at which the speech ends
    items: list[Item]
    seed: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """Speech in all rows together, without padding."""
        return float(self.lengths.sum()) / 100  # 10 ms frames

    def rng(self, purpose: int) -> np.random.Generator:
        """A fresh generator for one purpose; the same batch always gives the same one."""
        return np.random.default_rng([*self.seed, purpose])


class SpeechSource:
    """Training batches by index, and fixed validation batches."""

    def __init__(self, config: SpeechConfig, *, with_answer: bool = False) -> None:
        self.config, self.with_answer = config, with_answer
        self.stores = [FeatureStore(Path(config.questions), Path(config.question_features))]
        unanswered = 0.0 if with_answer else 1.0
        self.human = self._add(config.human, config.human_features, config.human_weight * unanswered)
        self.natural = self._add(config.natural, config.natural_features, config.natural_weight)
        self.words = self._add(config.words, config.word_features, config.words_weight * unanswered)
        self.revoiced = self._add(config.revoiced, config.revoiced_features, config.revoiced_weight)
        self._add(config.sentences, config.sentence_features, unanswered)
        pool: list[tuple[int, Row]] = []
        for index, store in enumerate(self.stores):
            pool += [(index, row) for row in self._usable(store, ("train",))]
        if not pool:
            raise DataError(f"{config.questions}: no training recording of at most {config.max_frames} frames")
        self.pool = sorted(pool, key=lambda entry: (_spoken(entry[1]), entry[1].item))
        self.weights = self._weights()

    def _add(self, manifest: str | None, features: str | None, weight: float) -> int | None:
        """Which store these recordings are, where there are any and they are wanted."""
        if not (manifest and features and weight > 0):
            return None
        self.stores.append(FeatureStore(Path(manifest), Path(features)))
        return len(self.stores) - 1

    def batches(self, start: int) -> Iterator[SpeechBatch]:
        """Endless training batches from micro-batch ``start`` on."""
        index = start
        while True:
            yield self.batch(index)
            index += 1

    def batch(self, index: int) -> SpeechBatch:
        """Training batch ``index``: a random subset of neighbours in length."""
        config, rng = self.config, np.random.default_rng([self.config.seed, index])
        anchor = int(rng.choice(len(self.pool), p=self.weights))
        margin = (config.max_lead_frames + config.max_tail_frames) // 2
        size = max(1, config.frames_per_batch // (_spoken(self.pool[anchor][1]) + margin))
        first = min(max(0, anchor - 2 * size), max(0, len(self.pool) - 4 * size))
        window = np.arange(first, min(len(self.pool), first + 4 * size))
        weights = self.weights[window] / self.weights[window].sum()
        size = min(size, len(window))
        chosen = rng.choice(window, size, replace=False, p=weights)
        return self._collate([self.pool[i] for i in chosen], rng, (config.seed, index), config.augment)

    def evaluation(self, splits: tuple[str, ...], limit: int, *, store: int = 0, size: int = 32) -> list[SpeechBatch]:
        """Fixed unchanged batches of these splits, spread evenly over the manifest, cut the same every time."""
        rows = self._usable(self.stores[store], splits)
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int)]
        rows = sorted(rows, key=_spoken)
        batches = []
        for first in range(0, len(rows), size):
            seed = (self.config.seed, 1 << 30, first)
            entries = [(store, row) for row in rows[first : first + size]]
            batches.append(self._collate(entries, np.random.default_rng(seed), seed, FeatureAugmentConfig()))
        return batches

    def _weights(self) -> NDArray[np.float64]:
        """How likely each recording of the pool is, from the shares of its kind."""
        config = self.config
        stores = np.array([index for index, _ in self.pool])
        set_apart = (
            (self.human, config.human_weight), (self.natural, config.natural_weight),
            (self.words, config.words_weight), (self.revoiced, config.revoiced_weight),
        )  # fmt: skip
        kinds = [(stores == store, weight) for store, weight in set_apart if store in stores]
        plain = ~np.any([kind for kind, _ in kinds], axis=0) if kinds else np.ones(len(stores), dtype=bool)
        asked = np.array([self.stores[index].items[row.item].answer is not None for index, row in self.pool]) & plain
        as_it_comes = asked.sum() / max(1, plain.sum())
        answered = as_it_comes if config.answered_share is None else config.answered_share
        rest = 1 - sum(weight for _, weight in kinds)
        weights = np.zeros(len(self.pool))
        texts = [self.stores[index].items[row.item].text for index, row in self.pool]
        odds = _rarity(texts) ** config.rare_words if config.rare_words else np.ones(len(texts))
        natural = stores == self.natural
        if natural.any():  # a voice counts by the root of its recordings, lest the one that is cheap to make drowns all
            voices = [self.stores[index].items[row.item].voice for index, row in self.pool if index == self.natural]
            counts = Counter(voices)
            odds[natural] *= [counts[voice] ** -0.5 for voice in voices]
        for kind, total in (*kinds, (asked, rest * answered), (plain & ~asked, rest * (1 - answered))):
            weights[kind] = total * odds[kind] / max(odds[kind].sum(), 1e-12)
        return np.asarray(weights / weights.sum())

    def _usable(self, store: FeatureStore, splits: Sequence[str]) -> list[Row]:
        rows = [row for row in store.select(splits) if _spoken(row) <= self.config.max_frames]
        return [row for row in rows if store.items[row.item].answer] if self.with_answer else rows

    def _collate(
        self,
        entries: list[tuple[int, Row]],
        rng: np.random.Generator,
        seed: tuple[int, ...],
        change: FeatureAugmentConfig,
    ) -> SpeechBatch:
        config, cuts, starts, ends, items = self.config, list[Tensor](), list[int](), list[int](), list[Item]()
        eagerness = min(1.0, seed[1] / max(1, change.ramp_batches))

        def other() -> NDArray[np.float32]:
            index, row = entries[int(rng.integers(len(entries)))]
            return self.stores[index].fbank(row, row.speech_start, row.speech_end)

        for index, row in entries:
            fbank, stretch = augment(self.stores[index].fbank(row), change, rng, eagerness, other)
            start, end = round(row.speech_start * stretch), min(round(row.speech_end * stretch), len(fbank))
            lead = int(rng.integers(0, config.max_lead_frames + 1))
            if lead > start:  # more silence than is stored: the stored one again
                extra = fbank[: min(lead - start, start)]
                fbank, start, end = np.concatenate([extra, fbank]), start + len(extra), end + len(extra)
            first = max(0, start - lead)
            last = min(len(fbank), end + int(rng.integers(0, config.max_tail_frames + 1)))
            last += -(last - first) % config.frame_multiple
            last -= config.frame_multiple if last > len(fbank) else 0
            cuts.append(torch.from_numpy(fbank[first:last]))
            starts.append(start - first)
            ends.append(min(end, last) - first)
            items.append(self.stores[index].items[row.item])
        lengths = torch.tensor([len(cut) for cut in cuts])
        fbanks = torch.nn.utils.rnn.pad_sequence(cuts, batch_first=True)
        return SpeechBatch(fbanks, lengths, starts, ends, items, seed)


def _rarity(texts: Sequence[str]) -> NDArray[np.float64]:
    """One over the recordings that have the rarest word of each; below ``SELDOM`` all are alike."""
    words = [set(text.split()) for text in texts]
    uses = Counter(word for each in words for word in each)
    return np.array([1 / max(SELDOM, min((uses[word] for word in each), default=SELDOM)) for each in words])


def _spoken(row: Row) -> int:
    return row.speech_end - row.speech_start
