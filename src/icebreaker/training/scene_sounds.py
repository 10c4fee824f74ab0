"""Sounds that scenes are made of, as log-mels: rooms' silence, coughs, distant voices. Knows nothing of labels.

Sounds are added as in ``sounds_together``; levels are natural logarithms of energy, so 10 dB are ``DB * 10``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from icebreaker.data.asides import ASIDE_KINDS, AsideKind, kind_of
from icebreaker.data.features import FeatureStore, Row
from icebreaker.errors import DataError
from icebreaker.training.feature_augment import FLOOR, FeatureAugmentConfig, augment, coloured_noise, reverberant
from icebreaker.training.sounds_together import together

__all__ = [
    "DB",
    "LogMel",
    "Sounds",
    "Spoken",
    "add_at",
    "burst",
    "coughs",
    "distant",
    "loudness",
    "quietest",
    "silence",
]

LogMel = NDArray[np.float32]  # [T, F]
DB = float(np.log(10) / 10)
ATTACK_FRAMES = 2  # a cough is as loud as it gets after 20 ms
ECHO_BINS = (4, 70)  # what a small loudspeaker and a far microphone leave, about 150 to 5800 Hz


@dataclass(frozen=True)
class Spoken:
    """Log-mels with silence around the speech, which lies in [start, end)."""

    fbank: LogMel
    start: int
    end: int

    @property
    def speech(self) -> LogMel:
        """[end - start, F]."""
        return self.fbank[self.start : self.end]


class Sounds:
    """Recordings that ask for nothing, by kind (``data/asides.py``)."""

    def __init__(self, manifest: str, features: str, splits: Sequence[str], change: FeatureAugmentConfig) -> None:
        self.store, self.change = FeatureStore(Path(manifest), Path(features)), change
        self.rows: dict[AsideKind, list[Row]] = {kind: [] for kind in ASIDE_KINDS}
        for row in self.store.select(splits):
            self.rows[kind_of(self.store.items[row.item])].append(row)
        if missing := [kind for kind, rows in self.rows.items() if not rows]:
            raise DataError(f"{manifest}: no {missing[0]} of split {' or '.join(splits)}; run `icebreaker data asides`")

    def draw(self, kind: AsideKind, rng: np.random.Generator) -> Spoken:
        """One recording, augmented."""
        rows = self.rows[kind]
        row = rows[int(rng.integers(len(rows)))]
        fbank, stretch = augment(self.store.fbank(row), self.change, rng)
        end = min(round(row.speech_end * stretch), len(fbank))
        return Spoken(fbank, round(row.speech_start * stretch), end)


def silence(spoken: Spoken, frames: int, rng: np.random.Generator) -> LogMel:
    """So many frames of the room that ``spoken`` was recorded in, from what lies around its speech."""
    around = [piece for piece in (spoken.fbank[: spoken.start], spoken.fbank[spoken.end + 10 :]) if len(piece)]
    if not around:
        return np.full((frames, spoken.fbank.shape[1]), FLOOR, np.float32)
    room = np.concatenate(around)
    return room[(np.arange(frames) + int(rng.integers(len(room)))) % len(room)]


def loudness(speech: LogMel) -> float:
    """Level of the loudest bins of the louder frames: what noise is set against."""
    peaks = np.sort(speech.max(axis=1))
    return float(peaks[-max(1, len(peaks) // 10)])


def quietest(fbank: LogMel, first: int, last: int) -> int:
    """The frame of [first, last) around which there is least energy: where speech can be cut without a click."""
    energy = np.logaddexp.reduce(fbank[first:last], axis=1)
    smooth = np.convolve(np.pad(energy, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    return first + int(smooth.argmin())


def burst(frames: int, start: int, end: int, rng: np.random.Generator) -> LogMel:
    """[frames, 80] of one coloured noise in [start, end), digital silence around it."""
    log_mel = coloured_noise((frames, 80), rng.uniform(6, 17), rng)
    log_mel[:start] = log_mel[end:] = FLOOR
    return log_mel


def coughs(rng: np.random.Generator, level: float) -> LogMel:
    """[T, 80]: one to three short noises of one colour, a quick attack and a slower decay each."""
    pieces = []
    for _ in range(int(rng.integers(1, 4))):
        frames = int(rng.integers(10, 32))
        noise = coloured_noise((frames, 80), level - DB * rng.uniform(0, 6), rng)
        times = np.arange(frames)
        fall = np.maximum(times - ATTACK_FRAMES, 0) * DB * rng.uniform(0.6, 1.8)
        rise = np.maximum(ATTACK_FRAMES - times, 0) * DB * 6.0
        gap = np.full((int(rng.integers(4, 25)), 80), FLOOR, np.float32)
        pieces += [np.maximum(noise - (fall + rise)[:, None], FLOOR).astype(np.float32), gap]
    return np.concatenate(pieces[:-1])


def distant(speech: LogMel, rng: np.random.Generator, loss_db: tuple[float, float], *, echo: bool = False) -> LogMel:
    """A voice from across the room, or out of the loudspeaker: softer, in its own reverberation, band-limited."""
    far = reverberant(speech, rng.uniform(12.0, 40.0), rng.uniform(-1.0, 1.0)) - np.float32(DB * rng.uniform(*loss_db))
    if echo:
        low, high = ECHO_BINS
        far[:, :low] -= DB * 15.0
        far[:, high:] -= DB * 15.0
    else:
        treble = np.linspace(0, DB * rng.uniform(0, 12.0), far.shape[1], dtype=np.float32)
        far = far - treble  # air and walls take it
    return np.asarray(np.maximum(far, FLOOR), dtype=np.float32)


def add_at(base: LogMel, other: LogMel, at: int, rng: np.random.Generator) -> LogMel:
    """Both at once, ``other`` beginning at frame ``at`` of ``base``; what does not fit is cut."""
    span = min(len(other), len(base) - at)
    result = base.copy()
    if span > 0:
        result[at : at + span] = together(base[at : at + span], other[:span], rng)
    return result
