"""Refuses a manifest before hours are spent on it: files, rates, texts, splits, ids. Knows nothing of models.

Only headers are read. A recording is in order where its file is there with the length that the manifest says, at no
lower rate than is needed, with a text and an id of its own; splits are in order where nothing held out was trained on.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soundfile

from icebreaker.data.manifest import Item, read_manifest
from icebreaker.data.recording import Progress
from icebreaker.errors import DataError

__all__ = ["check_manifest", "check_measured", "manifest_problems"]

LISTED = 10
LENGTH_TOLERANCE_S = 0.1
VOICES_SPLIT = 0.5  # of the held-out recordings in voices that train has not: then no voice may be in both
GROUP = 256  # headers a progress report
THREADS = 8  # opening files is waiting


def check_manifest(
    path: Path, *, sample_rate: int = 0, progress: Progress = lambda done, total: None
) -> tuple[int, float]:
    """Refuse a manifest with problems.

    Args:
        path: the manifest.
        sample_rate: the least of its recordings; resampling cannot bring back what a lower one has lost.
        progress: called with the recordings looked at and their total.

    Returns:
        The recordings and their seconds.

    Raises:
        DataError: there are problems; the message lists the first ten.
    """
    items = read_manifest(path)
    _refuse(path, manifest_problems(items, sample_rate=sample_rate, progress=progress))
    return len(items), sum(item.seconds for item in items)


def check_measured(path: Path, ids: Collection[str]) -> None:
    """Refuse a manifest of which the recordings ``ids`` are to be measured, and have problems or were trained on.

    Others may have problems, and any sample rate is fine: telephones are measured, too.

    Raises:
        DataError: there are problems; the message lists the first ten.
    """
    items = read_manifest(path)
    measured = [item for item in items if item.id in ids]
    train = [item for item in items if item.split == "train"]
    held_out = [item for item in measured if item.split != "train"]
    _refuse(path, [*_identity(measured), *_overlaps(train, held_out), *_files(measured, 0)])


def manifest_problems(
    items: Sequence[Item], *, sample_rate: int = 0, progress: Progress = lambda done, total: None
) -> list[str]:
    """What is wrong with ``items``, a line an offender, in the order of the manifest within each kind of problem."""
    if not items:
        return ["no recording at all"]
    train = [item for item in items if item.split == "train"]
    held_out = [item for item in items if item.split != "train"]
    return [*_identity(items), *_overlaps(train, held_out), *_files(items, sample_rate, progress)]


def _refuse(path: Path, problems: Sequence[str]) -> None:
    if problems:
        more = f"\n  and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        listed = "".join(f"\n  {problem}" for problem in problems[:LISTED])
        raise DataError(f"{path}: {len(problems)} problems; mend or remove these lines:{listed}{more}")


def _identity(items: Sequence[Item]) -> Iterator[str]:
    uses = Counter(item.id for item in items)
    yield from (f"{name}: {count} lines have this id" for name, count in uses.items() if count > 1)
    yield from (f"{item.id}: the text is empty" for item in items if not item.text.strip())
    yield from (f"{item.id}: the answer is empty; null says that there is none" for item in items if item.answer == "")


def _overlaps(train: Sequence[Item], held_out: Sequence[Item]) -> Iterator[str]:
    """Held-out items that train has heard: the same conversation, the same words in the same voice, a split voice."""
    if not train:
        return
    conversations = {item.conversation: item.id for item in train if item.conversation}
    said = {(item.text, item.voice): item.id for item in train}
    voices = {item.voice: item.id for item in train if item.voice}
    voiced = [item for item in held_out if item.voice]
    split_by_voice = sum(item.voice not in voices for item in voiced) > VOICES_SPLIT * len(voiced)
    for item in held_out:
        if item.conversation in conversations:
            other = conversations[item.conversation]
            yield f"{item.id}: of conversation {item.conversation!r} in {item.split}, as {other} in train"
        elif (item.text, item.voice) in said:
            same = said[item.text, item.voice]
            yield f"{item.id}: the same words in the same voice in {item.split} as {same} in train"
        elif split_by_voice and item.voice in voices:
            yield f"{item.id}: voice {item.voice!r} in {item.split}, and in train ({voices[item.voice]})"


def _files(items: Sequence[Item], sample_rate: int, progress: Progress = lambda done, total: None) -> Iterator[str]:
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for first in range(0, len(items), GROUP):
            group = items[first : first + GROUP]
            for found in pool.map(lambda item: _file(item, sample_rate), group):
                if found:
                    yield found
            progress(first + len(group), len(items))


def _file(item: Item, sample_rate: int) -> str | None:
    try:
        header = soundfile.info(str(item.audio))
    except (OSError, soundfile.LibsndfileError) as error:
        return f"{item.id}: {item.audio}: " + (f"not readable: {error}" if item.audio.exists() else "no such file")
    if header.samplerate < sample_rate:
        return f"{item.id}: {item.audio}: {header.samplerate} Hz, expected at least {sample_rate} Hz"
    if abs(header.duration - item.seconds) > LENGTH_TOLERANCE_S:
        return f"{item.id}: {item.audio}: lasts {header.duration:.2f} s, the manifest says {item.seconds:.2f} s"
    return None
