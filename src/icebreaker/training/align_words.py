"""Finds when each word of a recording is said: forced alignment with pocketsphinx. Knows nothing of codes or models.

pocketsphinx knows the pronunciation of 130,000 English words; a recording with another word is left out.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item, read_manifest
from icebreaker.extras import load_extra
from icebreaker.training.word_times import WordTime

logger = logging.getLogger(__name__)

__all__ = ["align_once", "words_of", "write_word_times"]

SAMPLE_RATE = 16_000
FRAME_S = 0.01
SILENCES = ("<sil>", "<s>", "</s>", "[NOISE]", "(NULL)")


def words_of(text: str) -> list[tuple[str, int, int]]:
    """Lower-case words of ``text`` with their characters; a hyphen separates words, an apostrophe is part of one."""
    return [(match[0].lower(), match.start(), match.end()) for match in re.finditer(r"[A-Za-z]+(?:'[A-Za-z]+)*", text)]


def align(decoder: Any, item: Item) -> list[WordTime] | None:
    """Times of the words of ``item``; ``None`` where the recogniser lacks a word or cannot follow."""
    words = words_of(item.text)
    if not words or re.search(r"\d", item.text) or any(decoder.lookup_word(word) is None for word, _, _ in words):
        return None
    waveform = load_audio(item.audio, SAMPLE_RATE)
    pcm = (np.clip(waveform, -1, 1) * 32767).astype(np.int16).tobytes()
    decoder.set_align_text(" ".join(word for word, _, _ in words))
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    said = [each for each in decoder.seg() or () if each.word not in SILENCES]
    if [re.sub(r"\(\d+\)$", "", each.word) for each in said] != [word for word, _, _ in words]:
        return None
    return [
        WordTime(first, last, each.start_frame * FRAME_S, (each.end_frame + 1) * FRAME_S)
        for each, (_, first, last) in zip(said, words, strict=True)
    ]


def write_word_times(items: Iterable[Item], path: Path, progress: Callable[[int], None] = lambda done: None) -> int:
    """Write what ``word_times.read_word_times`` reads, for those that align; returns how many do."""
    decoder = load_extra("pocketsphinx", "train").Decoder(lm=None, loglevel="FATAL")
    aligned, aside = 0, path.with_suffix(".partial")
    with aside.open("w") as file:
        for done, item in enumerate(items, start=1):
            if words := align(decoder, item):
                aligned += 1
                rounded = [[first, last, round(start, 3), round(end, 3)] for first, last, start, end in words]
                file.write(json.dumps({"id": item.id, "words": rounded}) + "\n")
            progress(done)
    os.replace(aside, path)
    return aligned


def align_once(manifest: Path, path: Path) -> None:
    """Write the word times of ``manifest`` to ``path`` unless they are there: about 20 recordings a second."""
    if not path.exists():
        items = read_manifest(manifest)
        logger.info("aligning the words of %d recordings", len(items))
        write_word_times(items, path)
