"""Many varied cuts of recordings, heard once by a frozen encoder and kept: an adapter on top then takes minutes.

Knows nothing of adapters.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from icebreaker.data.manifest import Item
from icebreaker.models.encoder import Encoder
from icebreaker.training.devices import moved
from icebreaker.training.hearing import HeardFrames
from icebreaker.training.speech_batches import SpeechBatch, SpeechSource

__all__ = ["Frames", "draw", "drawn", "listen", "padded"]


@dataclass(frozen=True)
class Frames:
    """What the encoder made of one recording."""

    frames: Tensor  # [T, E] float16, on the CPU
    item: Item


def draw(source: SpeechSource, recordings: int) -> Iterator[SpeechBatch]:
    """Training batches that hold about so many recordings together."""
    for batch in source.batches(0):
        yield batch
        recordings -= len(batch.items)
        if recordings <= 0:
            return


@torch.no_grad()
def listen(encoder: Encoder, chunks: tuple[int, int], heard: Iterator[SpeechBatch] | list[SpeechBatch]) -> list[Frames]:
    """The encoder's frames of every recording, at a chunk size and left chunks."""
    pool = []
    for batch in (moved(each, encoder.mean.device) for each in heard):
        frames, lengths = encoder.encode(batch.fbank, batch.lengths, chunk_size=chunks[0], left_chunks=chunks[1])
        pool += [
            Frames(row[:length].half().cpu(), item)
            for row, length, item in zip(frames, lengths.tolist(), batch.items, strict=True)
        ]
    return pool


def drawn(pool: list[Frames], rows: int, seed: int, first: int) -> Iterator[list[Frames]]:
    """Endless random batches from number ``first`` on."""
    while True:
        chosen = np.random.default_rng((seed, first)).choice(len(pool), min(rows, len(pool)), replace=False)
        yield [pool[index] for index in chosen]
        first += 1


def padded(batch: list[Frames], device: torch.device) -> HeardFrames:
    """The rows of ``batch`` as one tensor on ``device``."""
    frames = nn.utils.rnn.pad_sequence([row.frames.float() for row in batch], batch_first=True)
    return moved(HeardFrames(frames, torch.tensor([len(row.frames) for row in batch])), device)
