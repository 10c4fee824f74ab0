"""Spoken questions with answers as batches, each a function of (seed, batch number). Knows nothing of models.

Rows of a batch are neighbours in length. What frozen ears made of a recording can be kept, so that they hear it once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item, read_manifest
from icebreaker.errors import DataError
from icebreaker.training.devices import moved
from icebreaker.training.hearing import HeardFrames, HearingEars

__all__ = ["Hearing", "QuestionConfig", "QuestionSource"]

SAMPLE_RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class QuestionConfig:
    """Where spoken questions lie and how they are drawn."""

    manifest: Path
    rows: int = 32
    pool: int = 4  # batches' worth of questions that are sorted by length together
    max_seconds: float = 30.0  # longer ones stay out
    keep_frames: bool = False  # in memory, in half precision: for small encoders and sets

    def __post_init__(self) -> None:
        if self.rows < 1 or self.pool < 1:
            raise ValueError(f"rows {self.rows} and pool {self.pool} must be at least 1")


class QuestionSource:
    """The answered questions of one split."""

    def __init__(self, config: QuestionConfig, split: str, known: frozenset[str] | None = None) -> None:
        """``known`` are the only ids to take. Raise DataError where there is no question."""
        self.config = config
        self.items = [
            item
            for item in read_manifest(config.manifest, split)
            if item.answer and item.seconds <= config.max_seconds and (known is None or item.id in known)
        ]
        if not self.items:
            raise DataError(f"{config.manifest}: no answered question of split {split!r} within {config.max_seconds} s")

    def batches(self, first: int, seed: int) -> Iterator[list[Item]]:
        """Endless batches from number ``first`` on."""
        rows, pool = self.config.rows, self.config.pool
        while True:
            rng = np.random.default_rng((seed, first))
            count = min(rows * pool, len(self.items))
            drawn = [self.items[i] for i in rng.choice(len(self.items), count, replace=False)]
            drawn.sort(key=lambda item: item.seconds)
            start = int(rng.integers(max(1, count - rows + 1)))
            yield drawn[start : start + rows]
            first += 1

    def fixed(self, count: int) -> Iterator[list[Item]]:
        """``count`` questions spread evenly over the split, always the same ones."""
        chosen = np.linspace(0, len(self.items) - 1, min(count, len(self.items))).round().astype(int)
        items = sorted((self.items[i] for i in dict.fromkeys(chosen.tolist())), key=lambda item: item.seconds)
        for start in range(0, len(items), self.config.rows):
            yield items[start : start + self.config.rows]


class Hearing:
    """Frozen ears on items, with a memory if wanted."""

    def __init__(self, ears: HearingEars, *, keep: bool) -> None:
        self.ears, self.keep = ears, keep
        self._kept: dict[str, Tensor] = {}

    def __call__(self, items: Sequence[Item]) -> HeardFrames:
        """Frames of every item's recording."""
        if not self.keep:
            return self.ears([load_audio(item.audio, SAMPLE_RATE) for item in items])  # type: ignore[no-any-return]
        for item in items:
            if item.id not in self._kept:
                heard = self.ears([load_audio(item.audio, SAMPLE_RATE)])
                self._kept[item.id] = heard.frames[0, : int(heard.lengths[0])].half().cpu()
        rows = [self._kept[item.id].float() for item in items]
        frames = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return moved(HeardFrames(frames, torch.tensor([len(row) for row in rows])), self.ears.device)
