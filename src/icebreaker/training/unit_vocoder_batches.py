"""Recordings beside their units as batches for the unit vocoder, each a function of (seed, batch number).

Knows nothing of models or losses.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icebreaker.data.manifest import read_manifest
from icebreaker.errors import DataError
from icebreaker.models.units import repeat_runs
from icebreaker.training.codec_batches import QUIET, TRIES, read_recordings
from icebreaker.training.unit_extraction import SpokenUnits, read_units

__all__ = ["SpokenUnitSource", "VocoderBatch"]

logger = logging.getLogger(__name__)
OUTSIDE = -1  # a frame beyond the recording


class VocoderBatch(NamedTuple):
    """Segments with margins; T frames, S samples of the middle."""

    frames: Tensor  # [B, T] the unit of each frame, OUTSIDE beyond a recording's ends
    waveform: Tensor  # [B, S] what the middle should sound like
    spoken: list[SpokenUnits]  # the whole recordings that the segments come from


class SpokenUnitSource:
    """All recordings of a manifest's split that have units, in memory as int16."""

    def __init__(
        self, manifest: Path, units: Path, split: str, sample_rate: int, hop_length: int, limit: int | None = None
    ) -> None:
        """Raise DataError where no recording of ``split`` has units."""
        found = read_units(units)
        items = [item for item in read_manifest(manifest, split) if item.id in found and len(found[item.id].units)]
        items = items[:limit]
        if not items:
            raise DataError(f"{units}: no units for any {split!r} recording of {manifest}; run stage units")
        self.hop_length = hop_length
        self.spoken = [found[item.id] for item in items]
        self.frames = [repeat_runs(*spoken).numpy() for spoken in self.spoken]
        self.waveforms = [
            fit(np.round(waveform * 32767).astype(np.int16), len(frames) * hop_length)
            for waveform, frames in zip(read_recordings(items, sample_rate), self.frames, strict=True)
        ]
        self.starts = np.cumsum([0, *(len(frames) for frames in self.frames)])
        logger.info("%s: %d recordings, %d frames", manifest, len(items), self.starts[-1])

    def batches(self, first: int, *, seed: int, rows: int, frames: int, margin: int) -> Iterator[VocoderBatch]:
        """Endless batches from number ``first`` on: ``rows`` segments of ``frames`` with ``margin`` on both sides."""
        while True:
            rng = np.random.default_rng((seed, first))
            drawn = [self._draw(rng, frames, margin) for _ in range(rows)]
            units, sounds = (np.stack(parts) for parts in zip(*((d[1], d[2]) for d in drawn), strict=True))
            waveform = torch.from_numpy(sounds.astype(np.float32) / 32767)
            yield VocoderBatch(torch.from_numpy(units), waveform, [self.spoken[d[0]] for d in drawn])
            first += 1

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """Frames [1, T] and waveform [1, T * hop_length] of one recording."""
        waveform = torch.from_numpy(self.waveforms[index].astype(np.float32) / 32767)
        return torch.from_numpy(self.frames[index])[None], waveform[None]

    def _draw(
        self, rng: np.random.Generator, frames: int, margin: int
    ) -> tuple[int, NDArray[np.int64], NDArray[np.int16]]:
        for _ in range(TRIES):
            position = int(rng.integers(self.starts[-1]))
            index = int(np.searchsorted(self.starts, position, side="right")) - 1
            longest = max(0, len(self.frames[index]) - frames)
            start = min(max(0, position - int(self.starts[index]) - frames // 2), longest)
            sound = fit(self.waveforms[index][start * self.hop_length :], frames * self.hop_length)
            if np.sqrt(np.mean((sound.astype(np.float32) / 32767) ** 2)) >= QUIET:
                break
        around = np.full(frames + 2 * margin, OUTSIDE, dtype=np.int64)
        begin, end = max(0, start - margin), min(len(self.frames[index]), start + frames + margin)
        around[begin - start + margin : end - start + margin] = self.frames[index][begin:end]
        return index, around, sound


def fit(waveform: NDArray[np.int16], samples: int) -> NDArray[np.int16]:
    """``waveform`` cut, or continued with zeros, to ``samples``."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
