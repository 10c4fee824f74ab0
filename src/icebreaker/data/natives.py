"""Native speakers' recordings that came without a transcript, cut and transcribed by us. Knows nothing of models.

``native_transcripts.tsv`` says what is said from where to where in the LibriSpeech recordings of the data folder:
drafts of an independent recogniser (pocketsphinx), corrected by hand from the context; doubtful pieces are left
out. Some words will still be wrong: good enough to train on, not to measure by.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from icebreaker.data.manifest import Item
from icebreaker.data.recording import save_flac, seconds_of
from icebreaker.data.relations import split_of
from icebreaker.data.text import normalise
from icebreaker.errors import DataError

__all__ = ["cut_natives"]

TRANSCRIPTS = Path(__file__).with_name("native_transcripts.tsv")
RATE = 16_000


@dataclass(frozen=True)
class Piece:
    """What is said in a recording from ``start`` to ``end``, in seconds."""

    recording: str
    start: float
    end: float
    text: str

    @property
    def speaker(self) -> str:
        """LibriSpeech names recordings speaker-chapter-number."""
        return self.recording.partition("-")[0]


def cut_natives(folder: Path, audio: Path, transcripts: Path = TRANSCRIPTS) -> Iterator[Item]:
    """Write the transcribed pieces of ``folder/*.opus`` to ``audio`` as 16 kHz FLAC; existing files are kept.

    Splits go by the SHA-256 of the speaker's number.

    Raises:
        DataError: a recording that has a transcript is missing or cannot be read.
    """
    for piece in _pieces(transcripts):
        path = audio / f"{piece.recording}-{round(piece.start * 100):04d}.flac"
        if not path.exists():
            save_flac(path, _cut(folder / f"{piece.recording}.opus", piece), RATE)
        yield Item(
            id=path.stem,
            audio=path,
            seconds=seconds_of(path),
            text=normalise(piece.text),
            voice=f"librispeech-{piece.speaker}",
            split=split_of(f"librispeech|{piece.speaker}"),
        )


def _pieces(transcripts: Path) -> list[Piece]:
    with transcripts.open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [Piece(row["recording"], float(row["start"]), float(row["end"]), row["text"]) for row in rows]


def _cut(path: Path, piece: Piece) -> np.ndarray:
    try:
        waveform, native_rate = soundfile.read(path, dtype="float32")
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"{path}: cannot read: {error}; --source must be the data folder") from error
    cut = waveform[round(piece.start * native_rate) : round(piece.end * native_rate)]
    return np.asarray(soxr.resample(cut, native_rate, RATE), dtype=np.float32)
