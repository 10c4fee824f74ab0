"""Human speech as a manifest: speechocean762 and, where they are, native speakers. Knows nothing of models.

Speakers are split by the SHA-256 of their number.
"""

import csv
from pathlib import Path

import numpy as np
import soundfile
import soxr

from icebreaker.data.manifest import Item, write_manifest
from icebreaker.data.natives import cut_natives
from icebreaker.data.recording import Progress, save_flac, seconds_of
from icebreaker.data.relations import split_of
from icebreaker.data.text import normalise
from icebreaker.errors import DataError

__all__ = ["build_human"]

RATE = 16_000


def build_human(source: Path, out: Path, *, progress: Progress = lambda done, total: None) -> int:
    """Copy speechocean762 (``source/speechocean762-train``) to 16 kHz FLAC with a manifest; no answers.

    Native speakers join them where ``source/librispeech-speakers`` is there (see ``natives.py``). Recordings that are
    there already are kept.

    Returns:
        The number of recordings.

    Raises:
        DataError: the recordings or their table are missing.
    """
    folder = source / "speechocean762-train"
    table = folder / "utterances.tsv"
    if not table.is_file():
        raise DataError(f"{table}: no such file; --source must hold speechocean762-train/utterances.tsv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    items = []
    for done, row in enumerate(rows, start=1):
        items.append(_item(row, folder / "audio" / row["file"], out / "audio"))
        progress(done, len(rows))
    natives = source / "librispeech-speakers"
    if natives.is_dir():
        items += cut_natives(natives, out / "audio")
    write_manifest(out / "manifest.jsonl", items)
    return len(items)


def _item(row: dict[str, str], recording: Path, out: Path) -> Item:
    path = out / f"{recording.stem}.flac"
    if not path.exists():
        waveform, rate = soundfile.read(recording, dtype="float32")
        save_flac(path, np.asarray(soxr.resample(waveform, rate, RATE)), RATE)
    return Item(
        id=path.stem, audio=path, seconds=seconds_of(path), text=normalise(row["text"]),
        voice=f"speechocean762-{row['speaker']}", split=split_of(f"speechocean762|{row['speaker']}"),
    )  # fmt: skip
