"""What the ears may hear, with the right decision for every chunk. Knows nothing of models.

All is made from log-mel features: adding energies is ``logaddexp``, backwards is a flip, and noise is a coloured
floor. Labels are those of the official state head.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from icebreaker.training.feature_augment import FLOOR, coloured_noise
from icebreaker.training.speech_batches import SpeechBatch

__all__ = ["CHUNK_FRAMES", "Scene", "SceneConfig", "chunk_labels", "scenes"]

CHUNK_FRAMES = 16  # fbank frames of one listening step, 160 ms
LISTEN, ANSWER, DISMISS, IGNORE = 0, 1, 2, 3  # the last is the dummy class, never trained nor predicted
Kind = Literal["question", "cut", "backwards", "babble", "noise"]


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Shares of the kinds of scene (the rest are whole questions), and when a decision is due."""

    cut: float = 0.15
    backwards: float = 0.08
    babble: float = 0.08
    noise: float = 0.1
    patience_frames: int = 30  # from the end of speech to the first chunk that should decide
    grace_frames: int = 6  # the end of speech is only known this well: chunks in between have no label


@dataclass(frozen=True)
class Scene:
    """One row: its features, what it is, and a label per chunk."""

    fbank: Tensor  # [T, 80], T a multiple of CHUNK_FRAMES
    kind: Kind
    labels: Tensor  # [T // CHUNK_FRAMES]


def chunk_labels(frames: int, speech_end: int, decision: int, config: SceneConfig) -> Tensor:
    """Listen while there is speech, nothing for a moment, ``decision`` after ``patience_frames`` of silence."""
    ends = torch.arange(1, frames // CHUNK_FRAMES + 1) * CHUNK_FRAMES
    labels = torch.full_like(ends, IGNORE)
    labels[ends <= speech_end + config.grace_frames] = LISTEN
    labels[ends >= speech_end + config.patience_frames] = decision
    return labels


def scenes(batch: SpeechBatch, config: SceneConfig) -> list[Scene]:
    """A scene for every row of ``batch``, drawn from the batch's own seed."""
    rng = batch.rng(7)
    shares = [config.cut, config.backwards, config.babble, config.noise]
    edges = np.cumsum([1 - sum(shares), *shares])
    kinds: list[Kind] = ["question", "cut", "backwards", "babble", "noise"]
    made = []
    for row in range(len(batch.items)):
        kind = kinds[min(int(np.searchsorted(edges, rng.random(), side="right")), len(kinds) - 1)]
        made.append(_scene(batch, row, kind, config, rng))
    return made


def _scene(batch: SpeechBatch, row: int, kind: Kind, config: SceneConfig, rng: np.random.Generator) -> Scene:
    fbank = batch.fbank[row, : int(batch.lengths[row])]
    start, end = batch.speech_starts[row], batch.speech_ends[row]
    if kind == "cut":
        at = start + int((end - start) * rng.uniform(0.2, 0.8))
        fbank = _whole_chunks(torch.cat([fbank[:at], fbank[min(end + 4, len(fbank) - 1) :]]))
        labels = chunk_labels(len(fbank), len(fbank), LISTEN, config)
        return Scene(fbank, kind, torch.full_like(labels, LISTEN))
    if kind == "backwards":
        fbank = torch.cat([fbank[:start], fbank[start:end].flip(0), fbank[end:]])
    elif kind == "babble":
        for _ in range(int(rng.integers(2, 5))):
            other = int(rng.integers(len(batch.items)))
            shift = int(rng.integers(0, len(fbank)))
            voice = batch.fbank[other, batch.speech_starts[other] : batch.speech_ends[other]].roll(shift, 0)
            span = min(end - start, len(voice))
            mixed = torch.logaddexp(fbank[start : start + span], voice[:span])
            fbank = torch.cat([fbank[:start], mixed, fbank[start + span :]])
    elif kind == "noise":
        fbank = torch.logaddexp(fbank[-1:].expand_as(fbank), burst(len(fbank), start, end, rng))
    decision = ANSWER if kind == "question" else DISMISS
    return Scene(fbank, kind, chunk_labels(len(fbank), end, decision, config))


def burst(frames: int, start: int, end: int, rng: np.random.Generator) -> Tensor:
    """[T, 80] log-mels of one coloured noise in [start, end), digital silence around it."""
    log_mel = coloured_noise((frames, 80), rng.uniform(6, 17), rng)
    log_mel[:start] = log_mel[end:] = FLOOR
    return torch.from_numpy(log_mel)


def _whole_chunks(fbank: Tensor) -> Tensor:
    return fbank[: max(1, len(fbank) // CHUNK_FRAMES) * CHUNK_FRAMES]
