"""Filter banks of a manifest, made once and read by memory map. Knows nothing of models or batches.

Every recording is stored with silence around the speech, so that batches can cut a random amount of both: at run time
the ears hear up to a second of lead-in before voice activity fires, and silence after a question.
The framing is the streaming one: 240 zero samples in front, so 160 samples give exactly one frame.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from icebreaker.audio.fbank import HOP_LENGTH, MEL_BINS, SAMPLE_RATE, Fbank
from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item, read_manifest
from icebreaker.data.recording import Progress
from icebreaker.data.spread import Spread, here
from icebreaker.errors import DataError

__all__ = ["LEAD_FRAMES", "TAIL_FRAMES", "FeatureStore", "Row", "build_features", "channel_statistics", "features_of"]

LEAD_FRAMES = 64  # 0.64 s before the speech
TAIL_FRAMES = 112  # 1.12 s after it: seven chunks of 160 ms
Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One stored recording: its place in the file, and where in it the speech lies: [speech_start, speech_end)."""

    item: str
    begin: int
    frames: int
    speech_start: int
    speech_end: int


class FeatureStore:
    """The stored features of one manifest: ``items`` by id, ``rows``, and their frames."""

    def __init__(self, manifest: Path, folder: Path) -> None:
        if not (folder / "rows.jsonl").exists():
            raise DataError(f"{folder}: no stored features of {manifest}; run `icebreaker data features` first")
        self.items: dict[str, Item] = {item.id: item for item in read_manifest(manifest)}
        self.rows = [row for row in _rows(folder) if row.item in self.items]
        self.frames = np.memmap(folder / "frames.f16", dtype=np.float16, mode="r").reshape(-1, MEL_BINS)

    def select(self, splits: Sequence[str]) -> list[Row]:
        """Rows of these splits."""
        return [row for row in self.rows if self.items[row.item].split in splits]

    def fbank(self, row: Row, first: int = 0, last: int | None = None) -> Frames:
        """Float32 frames [first, last) of ``row``: [T, 80]; all of them by default."""
        last = row.frames if last is None else last
        return np.asarray(self.frames[row.begin + first : row.begin + last], dtype=np.float32)


def features_of(waveform: NDArray[np.float32], extractor: Fbank) -> torch.Tensor:
    """Streaming-framed log-mels [S // 160, 80] of ``waveform`` [S]; S is a multiple of 160."""
    fbank: torch.Tensor = extractor(torch.from_numpy(waveform)[None], extractor.initial_state(1))[0]
    return fbank[0]


def build_features(
    manifest: Path, folder: Path, *, seed: int = 0, progress: Progress = lambda done, total: None,
    spread: Spread = here,
) -> int:  # fmt: skip
    """Append what is missing of ``manifest`` to ``folder``: ``frames.f16`` (float16 log-mels) and ``rows.jsonl``.

    ``progress`` is called with the recordings stored so far and their total.

    Returns:
        The number of recordings stored in all. Can be stopped and called again, also when the manifest has grown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = _rows(folder)
    begin = sum(row.frames for row in done)
    known = {row.item for row in done}
    missing = [item for item in read_manifest(manifest) if item.id not in known]
    path = folder / "frames.f16"
    path.touch()
    with path.open("r+b") as frames_file, (folder / "rows.jsonl").open("a") as rows_file:
        frames_file.truncate(2 * MEL_BINS * begin)  # frames of a row that never got its line
        frames_file.seek(0, 2)
        made = spread(partial(_frames_of, Fbank(), seed), [(item.id, item.audio.absolute()) for item in missing])
        for count, (item, (fbank, spoken)) in enumerate(zip(missing, made, strict=True), start=len(done) + 1):
            frames_file.write(fbank.tobytes())
            frames_file.flush()
            row = Row(item.id, begin, len(fbank), LEAD_FRAMES, LEAD_FRAMES + spoken)
            rows_file.write(json.dumps(asdict(row)) + "\n")
            rows_file.flush()
            begin += len(fbank)
            progress(count, len(done) + len(missing))
    return len(done) + len(missing)


def channel_statistics(chunks: Iterable[Frames]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and inverse standard deviation [80] over all frames of ``chunks`` [T, 80], in float64."""
    count, total, squares = 0, np.zeros(MEL_BINS), np.zeros(MEL_BINS)
    for chunk in chunks:
        count += len(chunk)
        total += chunk.sum(axis=0, dtype=np.float64)
        squares += np.square(chunk, dtype=np.float64).sum(axis=0)
    if not count:
        raise DataError("no frames to estimate the mean and deviation of the features from")
    mean = total / count
    return mean, 1 / np.sqrt(np.maximum(squares / count - mean**2, 1e-20))


def _frames_of(extractor: Fbank, seed: int, recording: tuple[str, Path]) -> tuple[NDArray[np.float16], int]:
    """What is stored of a recording [T, 80], and the frames of its speech."""
    name, path = recording
    waveform = load_audio(path, SAMPLE_RATE)
    padded = _surround(waveform, np.random.default_rng([seed, *name.encode()]))
    fbank = features_of(padded, extractor).numpy().astype(np.float16)
    return fbank, -(-len(waveform) // HOP_LENGTH)


def _surround(waveform: Frames, rng: np.random.Generator) -> Frames:
    """Silence around the speech, for half of the recordings with a faint floor of noise."""
    before, after = LEAD_FRAMES * HOP_LENGTH, TAIL_FRAMES * HOP_LENGTH
    padded = np.pad(waveform, (before, after + -len(waveform) % HOP_LENGTH))
    if rng.random() < 0.5:
        padded = padded + rng.normal(0.0, 10 ** rng.uniform(-4.5, -3.0), len(padded)).astype(np.float32)
    return padded.astype(np.float32, copy=False)


def _rows(folder: Path) -> list[Row]:
    path = folder / "rows.jsonl"
    return [Row(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
