"""What a microphone hears that asks for nothing: ums, uh-huhs, other people, the assistant itself. Knows no models.

One manifest of short recordings whose ids begin with their kind, for the state head's scenes (``training/scenes.py``):
fillers and backchannels are spoken by the synthesisers, other people and the assistant's answers are recordings of the
manifests ``human`` and ``answers``, named where they lie. Held-out splits have held-out voices.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from icebreaker.data.manifest import Item, read_manifest, write_manifest
from icebreaker.data.recording import Progress, Script, record
from icebreaker.data.spread import Spread, here
from icebreaker.data.synthesis import HELD_OUT_VOICES, TRAIN_VOICES
from icebreaker.errors import DataError

__all__ = ["ASIDE_KINDS", "AsideKind", "build_asides", "kind_of"]

AsideKind = Literal["filler", "backchannel", "other", "echo"]
ASIDE_KINDS: tuple[AsideKind, ...] = get_args(AsideKind)
WORDS: dict[AsideKind, tuple[str, ...]] = {
    "filler": ("um", "uh", "er", "hmm"),
    "backchannel": ("uh huh", "yeah", "okay", "right", "mhm", "i see", "sure", "oh okay"),
}
SAMPLE_RATE = 16_000
SPEEDS = (0.8, 1.25)
PITCHES = (0.85, 1.2)
HELD_OUT_SHARE = 0.15  # of ``items``, in valid and in test each


def build_asides(
    recordings: Path, out: Path, *, items: int = 600, seed: int = 0, workers: int = 1,
    progress: Progress = lambda done, total: None, spread: Spread = here,
) -> int:  # fmt: skip
    """Write ``out/manifest.jsonl``: in train ``items`` of each kind, or as many as there are.

    Args:
        recordings: the folder with the manifests ``human`` and ``answers``.
        out: gets the manifest, and ``words/`` with what is spoken for it.
        items: recordings of a kind in train.
        seed: of every choice.
        workers: synthesisers at a time.
        progress: called with the words spoken so far and their total.
        spread: who does the speaking.

    Returns:
        The number of recordings.

    Raises:
        DataError: a manifest is missing, or holds nothing for a split.
    """
    rng = random.Random(f"asides-{seed}")
    scripts = [script for kind in WORDS for script in _scripts(kind, items, rng)]
    record(scripts, out / "words", SAMPLE_RATE, workers, progress, spread)
    spoken = {word: kind for kind, words in WORDS.items() for word in words}
    made = [_named(spoken[item.text], item) for item in read_manifest(out / "words" / "manifest.jsonl")]
    sources: tuple[tuple[AsideKind, str], ...] = (("other", "human"), ("echo", "answers"))
    for kind, source in sources:
        made += [_named(kind, item) for item in _drawn(recordings / source / "manifest.jsonl", items, rng)]
    write_manifest(out / "manifest.jsonl", made)
    return len(made)


def kind_of(item: Item) -> AsideKind:
    """The kind of an item of this manifest.

    Raises:
        DataError: its id does not begin with one.
    """
    for kind in ASIDE_KINDS:
        if item.id.startswith(f"{kind}-"):
            return kind
    raise DataError(
        f"{item.id}: expected an id that begins with {', '.join(ASIDE_KINDS)}; build with `icebreaker data`"
    )


def _scripts(kind: AsideKind, items: int, rng: random.Random) -> list[Script]:
    scripts = []
    for split, size in _sizes(items):
        voices = TRAIN_VOICES if split == "train" else HELD_OUT_VOICES
        for number in range(size):
            voice = rng.choices(voices, [voice.share for voice in voices])[0]
            text = WORDS[kind][number % len(WORDS[kind])]
            speed, pitch = round(rng.uniform(*SPEEDS), 3), round(rng.uniform(*PITCHES), 3)
            scripts.append(Script(text=text, split=split, voice=voice, speed=speed, pitch=pitch))
    return scripts


def _drawn(manifest: Path, items: int, rng: random.Random) -> list[Item]:
    found = read_manifest(manifest)
    drawn = list[Item]()
    for split, size in _sizes(items):
        of_split = [item for item in found if item.split == split]
        if not of_split:
            raise DataError(f"{manifest}: no recording of split {split!r}; build it with `icebreaker data` first")
        drawn += rng.sample(of_split, min(size, len(of_split)))
    return drawn


def _sizes(items: int) -> Sequence[tuple[str, int]]:
    held_out = max(1, round(items * HELD_OUT_SHARE))
    return (("train", items), ("valid", held_out), ("test", held_out))


def _named(kind: AsideKind, item: Item) -> Item:
    """The assistant's one voice is in every split; it has no name here, so that it is not taken for a leak."""
    voice = "" if kind == "echo" else item.voice
    return replace(item, id=f"{kind}-{item.id}", answer=None, conversation=None, voice=voice)
