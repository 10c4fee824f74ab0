"""Filter banks of a manifest, made once and read by memory map. Knows nothing of models or batches.

Every recording is stored several times: copy 0 as it is, the others augmented. Each copy carries silence around the
speech (a room's noise where the augmentation adds it), so that batches can cut a random amount of both: at run time
the ears hear up to a second of lead-in before voice activity fires, and silence after a question.
The framing is the streaming one: 240 zero samples in front, so 160 samples give exactly one frame.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from icebreaker.audio.fbank import HOP_LENGTH, SAMPLE_RATE, Fbank
from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item, read_manifest
from icebreaker.errors import DataError

__all__ = ["LEAD_FRAMES", "MELS", "TAIL_FRAMES", "FeatureStore", "Row", "build_features", "features_of"]

MELS = 80
LEAD_FRAMES = 64  # 0.64 s before the speech
TAIL_FRAMES = 112  # 1.12 s after it: seven chunks of 160 ms
Augment = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, float]]


@dataclass(frozen=True)
class Row:
    """One stored copy; ``begin`` and ``frames`` address the file, the speech lies in [speech_start, speech_end)."""

    item: str
    copy: int
    begin: int
    frames: int
    speech_start: int
    speech_end: int


class FeatureStore:
    """The stored features of one manifest: ``items`` by id, ``rows``, and their frames."""

    def __init__(self, manifest: Path, folder: Path) -> None:
        try:
            self.rows = [Row(**json.loads(line)) for line in (folder / "rows.jsonl").read_text().splitlines()]
        except FileNotFoundError:
            raise DataError(f"{folder}: no stored features; build them from {manifest} first") from None
        self.items: dict[str, Item] = {item.id: item for item in read_manifest(manifest)}
        self.rows = [row for row in self.rows if row.item in self.items]
        self.frames = np.memmap(folder / "frames.f16", dtype=np.float16, mode="r").reshape(-1, MELS)

    def select(self, splits: Sequence[str], *, clean_only: bool = False) -> list[Row]:
        """Rows of these splits."""
        return [r for r in self.rows if self.items[r.item].split in splits and not (clean_only and r.copy)]

    def fbank(self, row: Row, first: int, last: int) -> np.ndarray:
        """Float32 frames [first, last) of ``row``: [last - first, 80]."""
        return self.frames[row.begin + first : row.begin + last].astype(np.float32)


def features_of(waveform: np.ndarray) -> torch.Tensor:
    """Streaming-framed log-mels [S // 160, 80] of ``waveform`` [S]; S is a multiple of 160."""
    extractor = Fbank()
    fbank, _ = extractor(torch.from_numpy(waveform)[None], extractor.initial_state(1))
    return fbank[0]


def build_features(
    manifest: Path, folder: Path, *, copies: int, augment: Augment, seed: int, part: int = 0, parts: int = 1
) -> None:
    """Write ``folder/frames.f16`` and ``rows.jsonl``: ``copies`` augmented copies of training items, one clean of all.

    Args:
        manifest: what to read; audio paths are relative to it.
        folder: where to write.
        copies: augmented copies beside the clean one, for split "train" only.
        augment: waveform [S] and generator to the augmented waveform and its factor of duration.
        seed: the copies are a pure function of it and of the item's id.
        part: which of ``parts`` equal shares of the manifest to do, for several processes.
        parts: see ``part``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside, begin = folder / "frames.f16.partial", 0
    items = read_manifest(manifest)[part::parts]
    with aside.open("wb") as frames_file, (folder / "rows.jsonl.partial").open("w") as rows_file:
        for item in items:
            waveform = load_audio(manifest.parent / item.audio, SAMPLE_RATE)
            for copy in range(1 + (copies if item.split == "train" else 0)):
                rng = np.random.default_rng([seed, copy, *item.id.encode()])
                padded, start, end = _surround(waveform, rng, augment if copy else None)
                fbank = features_of(padded).numpy().astype(np.float16)
                row = Row(item.id, copy, begin, len(fbank), start, min(end, len(fbank)))
                frames_file.write(fbank.tobytes())
                rows_file.write(json.dumps(asdict(row)) + "\n")
                begin += len(fbank)
    os.replace(aside, folder / "frames.f16")
    os.replace(folder / "rows.jsonl.partial", folder / "rows.jsonl")


def merge_features(parts: Sequence[Path], folder: Path) -> None:
    """Join what several processes built, in order, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "frames.f16").open("wb") as frames_file, (folder / "rows.jsonl").open("w") as rows_file:
        offset = 0
        for part in parts:
            stored = (part / "frames.f16").read_bytes()
            frames_file.write(stored)
            for line in (part / "rows.jsonl").read_text().splitlines():
                row = json.loads(line)
                rows_file.write(json.dumps({**row, "begin": row["begin"] + offset}) + "\n")
            offset += len(stored) // (2 * MELS)


def channel_statistics(chunks: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and inverse standard deviation [80] over all frames of ``chunks`` [T, 80], in float64."""
    count, total, squares = 0, np.zeros(MELS), np.zeros(MELS)
    for chunk in chunks:
        count += len(chunk)
        total += chunk.sum(axis=0, dtype=np.float64)
        squares += np.square(chunk, dtype=np.float64).sum(axis=0)
    if not count:
        raise DataError("no frames to estimate the mean and deviation of the features from")
    mean = total / count
    return mean, 1 / np.sqrt(np.maximum(squares / count - mean**2, 1e-20))


def _surround(waveform: np.ndarray, rng: np.random.Generator, augment: Augment | None) -> tuple[np.ndarray, int, int]:
    """Silence around the speech, then the augmentation; returns the waveform and the speech's first and end frame."""
    lead, tail = LEAD_FRAMES * HOP_LENGTH, TAIL_FRAMES * HOP_LENGTH
    padded = np.pad(waveform, (lead, tail + -len(waveform) % HOP_LENGTH))
    if rng.random() < 0.5:  # digital silence in half of the copies, a faint floor in the others
        floor = 10 ** rng.uniform(-4.5, -3.0)
        padded = padded + rng.normal(0.0, floor, len(padded))
    factor = 1.0
    if augment is not None:
        padded, factor = augment(padded.astype(np.float32), rng)
        padded = padded[: len(padded) // HOP_LENGTH * HOP_LENGTH]
    start = round(lead * factor) // HOP_LENGTH
    end = -(-round((lead + len(waveform)) * factor) // HOP_LENGTH)
    return padded.astype(np.float32), start, end
