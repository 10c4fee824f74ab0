"""Recordings with manifests: spoken questions, the assistant's answers, human speech. Knows nothing of models.

Everything is seeded and can be stopped and called again; see ``recording.py``.

Voices are split for good: train items are spoken by ``TRAIN_VOICES``, valid and test items by ``HELD_OUT_VOICES``.
Human speakers are split by the SHA-256 of their number, other sentences by the SHA-256 of their text.
"""

import csv
import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from icebreaker.data.corpus import read_conversations
from icebreaker.data.manifest import Item, write_manifest
from icebreaker.data.natives import cut_natives
from icebreaker.data.neural_voices import HIBARI
from icebreaker.data.recording import Progress, Script, record, save_flac, seconds_of
from icebreaker.data.relations import split_of
from icebreaker.data.spread import Spread, here
from icebreaker.data.synthesis import (
    ASSISTANT,
    BREADTH_VOICES,
    HELD_OUT_NATURAL_VOICES,
    HELD_OUT_VOICES,
    NATURAL_VOICES,
    TRAIN_VOICES,
    Voice,
)
from icebreaker.data.text import is_speakable, normalise
from icebreaker.errors import DataError

__all__ = ["Progress", "build_answers", "build_human", "build_natural", "build_questions", "build_sentences"]

QUESTION_RATE = 16_000
ANSWER_RATE = 24_000
SPEEDS = (0.88, 1.15)
PITCHES = (0.88, 1.14)
WIDE_SPEEDS = (0.8, 1.3)  # of sentences
WIDE_PITCHES = (0.8, 1.28)
REQUEST_FILES = ("clinc-utterances", "slurp-sentences", "snips-queries")
LEAST_USES = 5  # a word in fewer answers than this is never held out


def build_questions(
    source: Path,
    text: Path,
    out: Path,
    *,
    items: int = 7500,
    held_out: int = 500,
    other_share: float = 0.35,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    spread: Spread = here,
) -> int:
    """Speak first questions of the corpus in ``text`` and other sentences of ``source`` with many voices, at 16 kHz.

    Args:
        source: the data folder with ``text/*.jsonl.gz``.
        text: the folder that ``build_text`` wrote.
        out: gets ``manifest.jsonl`` and ``audio/``.
        items: recordings in train, of which ``other_share`` are other sentences (``answer`` is null).
        held_out: recordings in valid, and in test.
        seed: of every choice.
        workers: synthesisers at a time.
        progress: called with the recordings done so far and their total.
        spread: who does the speaking.

    Returns:
        The number of recordings.
    """
    rng = random.Random(f"questions-{seed}")
    others = {split: list(sentences) for split, sentences in _requests(source).items()}
    scripts: list[Script] = []
    for split, size in (("train", items), ("valid", held_out), ("test", held_out)):
        asked = _first_questions(text / f"{split}.jsonl")
        rng.shuffle(asked)
        asked = asked[: size - round(size * other_share)]
        spoken = [(question, answer, name) for question, answer, name in asked]
        spoken += [(sentence, None, None) for sentence in _draw(others[split], size - len(spoken), rng)]
        voices = TRAIN_VOICES if split == "train" else HELD_OUT_VOICES
        for sentence, answer, name in spoken:
            voice = rng.choices(voices, [voice.share for voice in voices])[0]
            scripts.append(_script(sentence, split, voice, rng, answer=answer, conversation=name))
    rng.shuffle(scripts)
    return record(scripts, out, QUESTION_RATE, workers, progress, spread)


def build_sentences(
    source: Path,
    out: Path,
    *,
    items: int = 16_000,
    held_out: int = 200,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    spread: Spread = here,
) -> int:
    """Speak sentences of ``source`` that nobody answers, for the ears' breadth: more voices, tempi and pitches.

    Returns:
        The number of recordings.
    """
    rng = random.Random(f"sentences-{seed}")
    texts = {split: list(sentences) for split, sentences in _requests(source).items()}
    for sentence in [*_chat_sentences(source), *_simple_questions(source)]:
        texts[split_of(sentence)].append(sentence)
    scripts = []
    for split, size in (("train", items), ("valid", held_out), ("test", held_out)):
        voices = BREADTH_VOICES if split == "train" else HELD_OUT_VOICES
        for sentence in _draw(list(dict.fromkeys(texts[split])), size, rng):
            voice = rng.choices(voices, [voice.share for voice in voices])[0]
            scripts.append(_script(sentence, split, voice, rng, WIDE_SPEEDS, WIDE_PITCHES))
    rng.shuffle(scripts)
    return record(scripts, out, QUESTION_RATE, workers, progress, spread)


def build_natural(
    source: Path,
    text: Path,
    out: Path,
    *,
    items: int = 5000,
    held_out: int = 80,
    other_share: float = 0.35,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    spread: Spread = here,
) -> int:
    """As ``build_questions``, in natural voices and averages of two of them; all that is held out is answered.

    Returns:
        The number of recordings.
    """
    rng = random.Random(f"natural-{seed}")
    others = list(_requests(source)["train"])
    others += [text for text in [*_chat_sentences(source), *_simple_questions(source)] if split_of(text) == "train"]
    scripts: list[Script] = []
    for split, size in (("train", items), ("valid", held_out), ("test", held_out)):
        share = other_share if split == "train" else 0.0
        spoken: list[tuple[str, str | None, str | None]] = list(_first_questions(text / f"{split}.jsonl"))
        rng.shuffle(spoken)
        spoken = spoken[: size - round(size * share)]
        spoken += [(sentence, None, None) for sentence in _draw(others, size - len(spoken), rng)]
        for sentence, answer, name in spoken:
            voice = _natural_voice(rng) if split == "train" else rng.choice(HELD_OUT_NATURAL_VOICES)
            scripts.append(_script(sentence, split, voice, rng, answer=answer, conversation=name))
    rng.shuffle(scripts)
    return record(scripts, out, QUESTION_RATE, workers, progress, spread)


def _script(
    sentence: str,
    split: str,
    voice: Voice,
    rng: random.Random,
    speeds: tuple[float, float] = SPEEDS,
    pitches: tuple[float, float] = PITCHES,
    *,
    answer: str | None = None,
    conversation: str | None = None,
) -> Script:
    """``sentence`` at a speed and a pitch that are drawn here."""
    speed, pitch = rng.uniform(*speeds), rng.uniform(*pitches)
    return Script(
        text=sentence, split=split, voice=voice, transcript=normalise(sentence), speed=round(speed, 3),
        pitch=round(pitch, 3), answer=answer, conversation=conversation,
    )  # fmt: skip


def _natural_voice(rng: random.Random) -> Voice:
    """One of the voices, or half the time the average of two: no two speakers are enough."""
    shares = [voice.share for voice in NATURAL_VOICES]
    first, second = rng.choices(NATURAL_VOICES, shares, k=2)
    if HIBARI in (first.engine_voice, second.engine_voice) or first == second or rng.random() < 0.5:
        return first
    names = sorted((first.engine_voice, second.engine_voice))
    return Voice(name=f"kokoro-{'+'.join(names)}", engine="kokoro", engine_voice="+".join(names))


def build_answers(
    source: Path,
    text: Path,
    out: Path,
    *,
    items: int | None = None,
    other_share: float = 0.5,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    spread: Spread = here,
) -> int:
    """Speak the distinct answers of the corpus, and other short sentences, in the assistant's voice at 24 kHz.

    Of the answers, at most ``items`` are drawn (None: all).

    Splits go by the hash of the sentence, but an answer with a rare word ("The capital of Peru is Lima.") is always
    train: valid and test ask for sentences never spoken, not for words never heard.

    Returns:
        The number of recordings.
    """
    rng = random.Random(f"answers-{seed}")
    answers = _distinct_answers(text)
    answers = answers if items is None else _draw(answers, items, rng)
    chat = _draw(_chat_sentences(source), round(len(answers) * other_share / (1 - other_share)), rng)
    uses = Counter(word for sentence in answers for word in set(normalise(sentence).split()))
    scripts = []
    for sentence in dict.fromkeys(answers + chat):
        rare = any(uses[word] < LEAST_USES for word in normalise(sentence).split())
        split = "train" if rare and sentence not in chat else split_of(sentence)
        scripts.append(Script(text=sentence, split=split, voice=ASSISTANT))
    rng.shuffle(scripts)
    return record(scripts, out, ANSWER_RATE, workers, progress, spread)


def build_human(source: Path, out: Path, *, progress: Progress = lambda done, total: None) -> int:
    """Copy speechocean762 (``source/speechocean762-train``) to 16 kHz FLAC with a manifest; no answers.

    Native speakers join them where ``source/librispeech-speakers`` is there (see ``natives.py``).

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
    for done, row in enumerate(rows):
        path = out / "audio" / f"{Path(row['file']).stem}.flac"
        if not path.exists():
            waveform, native_rate = soundfile.read(folder / "audio" / row["file"], dtype="float32")
            save_flac(path, np.asarray(soxr.resample(waveform, native_rate, QUESTION_RATE)), QUESTION_RATE)
        items.append(
            Item(
                id=path.stem,
                audio=path,
                seconds=seconds_of(path),
                text=normalise(row["text"]),
                voice=f"speechocean762-{row['speaker']}",
                split=split_of(f"speechocean762|{row['speaker']}"),
            )
        )
        progress(done + 1, len(rows))
    natives = source / "librispeech-speakers"
    if natives.is_dir():
        items += cut_natives(natives, out / "audio")
    write_manifest(out / "manifest.jsonl", items)
    return len(items)


def _distinct_answers(text: Path) -> list[str]:
    answers: dict[str, None] = {}
    for split in ("train", "valid", "test"):
        for conversation in read_conversations(text / f"{split}.jsonl"):
            answers |= dict.fromkeys(turn["text"] for turn in conversation["turns"][1::2])
    return list(answers)


def _first_questions(path: Path) -> list[tuple[str, str | None, str | None]]:
    """(question, answer, conversation id) of each distinct first question without a system prompt."""
    found: dict[str, tuple[str, str | None, str | None]] = {}
    for conversation in read_conversations(path):
        question, answer = (turn["text"] for turn in conversation["turns"][:2])
        if conversation["system"] is None:
            found.setdefault(question, (question, answer, conversation["id"]))
    return list(found.values())


def _requests(source: Path) -> dict[str, list[str]]:
    """Requests to voice assistants, by the split of their hash."""
    splits: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for name in REQUEST_FILES:
        for row in _read_gzip(source / "text" / f"{name}.jsonl.gz"):
            if _is_short(row["text"]):
                splits[split_of(row["text"])].append(row["text"])
    return splits


def _chat_sentences(source: Path) -> list[str]:
    sentences: dict[str, None] = {}
    for row in _read_gzip(source / "text" / "synthetic-persona-chat.jsonl.gz"):
        for line in row["conversation"]:
            sentence = line.partition(": ")[2].strip()
            if _is_short(sentence) and sentence.endswith(".") and sentence.count(".") == 1:
                sentences.setdefault(sentence)
    return list(sentences)


def _simple_questions(source: Path) -> list[str]:
    rows = _read_gzip(source / "text" / "simple-questions.jsonl.gz")
    return list(dict.fromkeys(row["question"] for row in rows if _is_short(row["question"])))


def _is_short(text: str) -> bool:
    return is_speakable(text) and 3 <= len(text.split()) <= 11


def _draw(sentences: Sequence[str], number: int, rng: random.Random) -> list[str]:
    return rng.sample(sentences, min(number, len(sentences)))


def _read_gzip(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot read: {error}; --source must be the data folder") from error
