"""Who says which sentence how: spoken questions, other sentences, the assistant's answers. Knows nothing of models.

Everything is seeded and can be stopped and called again; see ``recording.py``.

Voices are split for good: train items are spoken by ``TRAIN_VOICES``, valid and test items by ``HELD_OUT_VOICES``.
Sentences that are from no conversation are split by the SHA-256 of their text.
"""

import random
from collections import Counter
from pathlib import Path

from icebreaker.data.neural_voices import HIBARI
from icebreaker.data.recording import Progress, Script, record
from icebreaker.data.relations import split_of
from icebreaker.data.sentences import (
    Asked,
    asked_and_others,
    breadth,
    chat_sentences,
    distinct_answers,
    draw,
    levelled,
    requests,
    word_lists,
)
from icebreaker.data.spread import Spread, here
from icebreaker.data.synthesis import (
    ASSISTANT,
    BREADTH_VOICES,
    HELD_OUT_NATURAL_VOICES,
    HELD_OUT_VOICES,
    MORE_VOICES,
    NATURAL_VOICES,
    TRAIN_VOICES,
    Voice,
)
from icebreaker.data.text import normalise

__all__ = ["build_answers", "build_natural", "build_questions", "build_sentences", "build_words"]

QUESTION_RATE = 16_000
ANSWER_RATE = 24_000
SPEEDS = (0.88, 1.15)
PITCHES = (0.88, 1.14)
WIDE_SPEEDS = (0.8, 1.3)  # of sentences and of more questions
WIDE_PITCHES = (0.8, 1.28)
MORE_OTHERS = 0.2  # of ``more`` natural recordings: sentences that nobody answers
LEAST_USES = 5  # a word in fewer answers than this is never held out


def build_questions(
    source: Path,
    text: Path,
    out: Path,
    *,
    items: int = 7500,
    held_out: int = 500,
    other_share: float = 0.35,
    more: int = 0,
    level: int = 0,
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
        other_share: of the recordings of every split.
        more: further first questions of train, in more voices, tempi and pitches; at most as many as there are.
        level: still further ones, the same again and again where they have words that are seldom said.
        seed: of every choice.
        workers: synthesisers at a time.
        progress: called with the recordings done so far and their total.
        spread: who does the speaking.

    Returns:
        The number of recordings.

    Raises:
        DataError: a source is missing, or a synthesiser.
    """
    rng = random.Random(f"questions-{seed}")
    others = requests(source)
    scripts: list[Script] = []
    for split, size in _sizes(items, held_out):
        voices = TRAIN_VOICES if split == "train" else HELD_OUT_VOICES
        for asked in asked_and_others(text / f"{split}.jsonl", others[split], size, other_share, rng):
            scripts.append(_script(asked, split, _any_of(voices, rng), rng))
    more_rng = random.Random(f"more-questions-{seed}")  # its own: the recordings above stay what they are
    for asked in asked_and_others(text / "train.jsonl", (), more, 0.0, more_rng):
        scripts.append(_script(asked, "train", _any_of(MORE_VOICES, more_rng), more_rng, WIDE_SPEEDS, WIDE_PITCHES))
    rng.shuffle(scripts)
    level_rng = random.Random(f"level-questions-{seed}")
    said = [script.text for script in scripts if script.split == "train"]
    for asked in levelled(text / "train.jsonl", said, level, level_rng):
        voice = _any_of(MORE_VOICES, level_rng)
        scripts.append(_script(asked, "train", voice, level_rng, WIDE_SPEEDS, WIDE_PITCHES))
    return record(scripts, out, QUESTION_RATE, workers, progress, spread)


def build_natural(
    source: Path,
    text: Path,
    out: Path,
    *,
    items: int = 5000,
    held_out: int = 80,
    other_share: float = 0.35,
    more: int = 0,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    spread: Spread = here,
) -> int:
    """As ``build_questions``, in natural voices and averages of two of them; all that is held out is answered.

    ``more`` sentences of train, a fifth of them nobody's question, are spoken by Kokoro alone, whose many speakers are
    dear.

    Returns:
        The number of recordings.
    """
    rng = random.Random(f"natural-{seed}")
    others = requests(source)["train"] + [sentence for sentence in breadth(source) if split_of(sentence) == "train"]
    scripts: list[Script] = []
    for split, size in _sizes(items, held_out):
        share = other_share if split == "train" else 0.0
        for asked in asked_and_others(text / f"{split}.jsonl", others, size, share, rng):
            voice = _natural_voice(rng, NATURAL_VOICES) if split == "train" else rng.choice(HELD_OUT_NATURAL_VOICES)
            scripts.append(_script(asked, split, voice, rng))
    rng.shuffle(scripts)
    more_rng = random.Random(f"more-natural-{seed}")  # its own, and behind: the recordings above stay what they are
    many = tuple(voice for voice in NATURAL_VOICES if voice.engine_voice != HIBARI)
    for asked in asked_and_others(text / "train.jsonl", others, more, MORE_OTHERS, more_rng):
        scripts.append(_script(asked, "train", _natural_voice(more_rng, many), more_rng))
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
    texts = requests(source)
    for sentence in breadth(source):
        texts[split_of(sentence)].append(sentence)
    scripts = []
    for split, size in _sizes(items, held_out):
        voices = BREADTH_VOICES if split == "train" else HELD_OUT_VOICES
        for sentence in draw(list(dict.fromkeys(texts[split])), size, rng):
            scripts.append(_script(Asked(sentence), split, _any_of(voices, rng), rng, WIDE_SPEEDS, WIDE_PITCHES))
    rng.shuffle(scripts)
    return record(scripts, out, QUESTION_RATE, workers, progress, spread)


def build_words(
    text: Path,
    out: Path,
    *,
    items: int = 12_000,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    spread: Spread = here,
) -> int:
    """Speak lists of the words of the corpus, all of them train, in all voices that cost little.

    Returns:
        The number of recordings.
    """
    rng = random.Random(f"words-{seed}")
    scripts = [
        _script(Asked(listed), "train", _any_of(MORE_VOICES, rng), rng, WIDE_SPEEDS, WIDE_PITCHES)
        for listed in word_lists(text / "train.jsonl", items, rng)
    ]
    return record(scripts, out, QUESTION_RATE, workers, progress, spread)


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
    answers = distinct_answers(text)
    answers = answers if items is None else draw(answers, items, rng)
    chat = draw(chat_sentences(source), round(len(answers) * other_share / (1 - other_share)), rng)
    uses = Counter(word for sentence in answers for word in set(normalise(sentence).split()))
    scripts = []
    for sentence in dict.fromkeys(answers + chat):
        rare = any(uses[word] < LEAST_USES for word in normalise(sentence).split())
        split = "train" if rare and sentence not in chat else split_of(sentence)
        scripts.append(Script(text=sentence, split=split, voice=ASSISTANT))
    rng.shuffle(scripts)
    return record(scripts, out, ANSWER_RATE, workers, progress, spread)


def _sizes(items: int, held_out: int) -> tuple[tuple[str, int], ...]:
    return ("train", items), ("valid", held_out), ("test", held_out)


def _script(
    asked: Asked,
    split: str,
    voice: Voice,
    rng: random.Random,
    speeds: tuple[float, float] = SPEEDS,
    pitches: tuple[float, float] = PITCHES,
) -> Script:
    """What is asked, at a speed and a pitch that are drawn here."""
    speed, pitch = rng.uniform(*speeds), rng.uniform(*pitches)
    return Script(
        text=asked.text, split=split, voice=voice, transcript=normalise(asked.text), speed=round(speed, 3),
        pitch=round(pitch, 3), answer=asked.answer, conversation=asked.conversation,
    )  # fmt: skip


def _any_of(voices: tuple[Voice, ...], rng: random.Random) -> Voice:
    return rng.choices(voices, [voice.share for voice in voices])[0]


def _natural_voice(rng: random.Random, voices: tuple[Voice, ...]) -> Voice:
    """One of the voices, or half the time the average of two: no two speakers are enough."""
    first, second = rng.choices(voices, [voice.share for voice in voices], k=2)
    if HIBARI in (first.engine_voice, second.engine_voice) or first == second or rng.random() < 0.5:
        return first
    names = sorted((first.engine_voice, second.engine_voice))
    return Voice(name=f"kokoro-{'+'.join(names)}", engine="kokoro", engine_voice="+".join(names))
