"""Segments of recordings for the codec, each a function of (seed, batch number). Knows nothing of models or losses."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item, read_manifest
from icebreaker.errors import DataError

__all__ = ["CodecBatch", "SegmentSource", "levelled", "read_recordings"]

logger = logging.getLogger(__name__)

LEVEL = 0.1  # root mean square of the sounding part
PEAK = 0.95  # never exceeded
SOUNDING = 0.01  # samples above this share of the peak count
QUIET = 0.01  # root mean square under which a segment counts as silence
TRIES = 4  # to find a segment that is no silence; some silence has to be learnt too


class CodecBatch(NamedTuple):
    """Waveform [B, S]: segments with their surroundings on both sides."""

    waveform: Tensor


def levelled(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """The recording at the loudness that all training has."""
    peak = float(np.abs(waveform).max(initial=0.0))
    if peak == 0:
        return waveform
    sounding = waveform[np.abs(waveform) > SOUNDING * peak]
    gain = min(LEVEL / float(np.sqrt(np.mean(sounding**2))), PEAK / peak)
    return np.asarray(waveform * gain, dtype=np.float32)


def read_recordings(items: Sequence[Item], sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """Each recording [S], levelled."""
    return (levelled(load_audio(item.audio, sample_rate)) for item in items)


class SegmentSource:
    """All recordings of a manifest's split in memory as int16, and random segments of them."""

    def __init__(self, manifest: Path, split: str, sample_rate: int, limit: int | None = None) -> None:
        items = read_manifest(manifest, split)[:limit]
        if not items:
            raise DataError(f"{manifest}: no recording of split {split!r}; synthesise the answers first")
        self.recordings = [
            np.round(waveform * 32767).astype(np.int16) for waveform in read_recordings(items, sample_rate)
        ]
        self.starts = np.cumsum([0, *(len(r) for r in self.recordings)])
        logger.info("%s: %d recordings, %.0f s", manifest, len(items), self.starts[-1] / sample_rate)

    def batches(self, first: int, *, seed: int, rows: int, samples: int, margin: int) -> Iterator[CodecBatch]:
        """Endless batches from number ``first`` on: ``rows`` segments of ``samples`` with ``margin`` on both sides."""
        while True:
            rng = np.random.default_rng((seed, first))
            segments = [self._draw(rng, samples, margin) for _ in range(rows)]
            yield CodecBatch(torch.from_numpy(np.stack(segments).astype(np.float32) / 32767))
            first += 1

    def _draw(self, rng: np.random.Generator, samples: int, margin: int) -> NDArray[np.int16]:
        for _ in range(TRIES):
            position = int(rng.integers(self.starts[-1]))
            index = int(np.searchsorted(self.starts, position, side="right")) - 1
            segment = cut(self.recordings[index], position - int(self.starts[index]) - samples // 2, samples, margin)
            middle = segment[margin : margin + samples].astype(np.float32) / 32767
            if np.sqrt(np.mean(middle**2)) >= QUIET:
                break
        return segment


def cut(recording: NDArray[np.int16], start: int, samples: int, margin: int) -> NDArray[np.int16]:
    """``samples`` from ``start`` with ``margin`` around, zeros where the recording does not reach."""
    begin, end = start - margin, start + samples + margin
    inside = recording[max(0, begin) : max(0, end)]
    left = min(max(0, -begin), samples + 2 * margin)
    return np.pad(inside, (left, samples + 2 * margin - left - len(inside)))
