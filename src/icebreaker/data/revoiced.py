"""Recordings of train said once more by speakers whom nobody has heard (``revoice.py``). Knows no synthesiser.

All natural and human recordings, as many questions and half as many other sentences; formant voices stay out, of whom
there are dozens. Can be stopped and called again: a file's name says what it is made of and how.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item, read_manifest, write_manifest
from icebreaker.data.recording import Progress, save_flac, seconds_of
from icebreaker.data.revoice import Manner, draw_manner, revoice
from icebreaker.data.spread import Spread, here
from icebreaker.errors import DataError

__all__ = ["build_revoiced"]

SAMPLE_RATE = 16_000
SHARES = {"natural": 0.3, "human": 0.2, "questions": 0.3, "sentences": 0.2}  # of ``items``, as far as there are so many
LEFT_OUT = "espeak"


@dataclass(frozen=True)
class _Take:
    """One recording and how it is said anew."""

    item: Item
    manner: Manner

    @property
    def id(self) -> str:
        recipe = f"{self.item.voice}|{self.item.id}|{self.manner}"
        return f"train-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def build_revoiced(
    recordings: Path, out: Path, *, items: int, seed: int = 0, workers: int = 1,
    progress: Progress = lambda done, total: None, spread: Spread = here,
) -> int:  # fmt: skip
    """Write ``out/audio`` and ``out/manifest.jsonl``, split train alone, in an order that has no kinds.

    Args:
        recordings: the folder of the manifests ``natural``, ``human``, ``questions`` and ``sentences``; one may lack.
        out: gets the recordings.
        items: how many at most.
        seed: of every choice.
        workers: threads; WORLD computes without holding the others up.
        progress: called with the recordings done so far and their total.
        spread: who does the work.

    Raises:
        DataError: none of the manifests is there.
        ConfigError: the packages of the extra ``voices`` are missing.
    """
    rng = random.Random(f"revoiced-{seed}")
    takes = list[_Take]()
    for kind, share in SHARES.items():
        manifest = recordings / kind / "manifest.jsonl"
        if not manifest.is_file():
            continue
        found = [item for item in read_manifest(manifest, "train") if LEFT_OUT not in item.voice]
        drawn = rng.sample(found, min(len(found), round(share * items)))
        takes += [_Take(item, draw_manner(np.random.default_rng([seed, *item.id.encode()]))) for item in drawn]
    if not takes:
        raise DataError(f"{recordings}: nothing to say anew; run `icebreaker data natural` or `questions` first")
    rng.shuffle(takes)
    missing = [take for take in takes if not _path(out, take).exists()]
    kept = len(takes) - len(missing)
    for done, _ in enumerate(spread(partial(_say, out.absolute()), _absolute(missing), workers), start=kept + 1):
        progress(done, len(takes))
    write_manifest(out / "manifest.jsonl", [_item(out, take) for take in takes])
    return len(takes)


def _absolute(takes: Sequence[_Take]) -> list[_Take]:
    return [replace(take, item=replace(take.item, audio=take.item.audio.absolute())) for take in takes]


def _say(out: Path, take: _Take) -> None:
    said = revoice(load_audio(take.item.audio, SAMPLE_RATE), SAMPLE_RATE, take.manner)
    save_flac(_path(out, take), said, SAMPLE_RATE)


def _path(out: Path, take: _Take) -> Path:
    return out / "audio" / f"{take.id}.flac"


def _item(out: Path, take: _Take) -> Item:
    path = _path(out, take)
    return replace(take.item, id=take.id, audio=path, seconds=seconds_of(path), voice=f"revoiced-{take.item.voice}")
