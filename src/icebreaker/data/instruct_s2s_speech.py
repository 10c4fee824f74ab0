"""InstructS2S, the steps of sound: questions in many voices, answers in one, and the answers' units."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.pcm import load_audio
from icebreaker.data.instruct_s2s_config import InstructS2SConfig
from icebreaker.data.journal import Journal
from icebreaker.data.recording import Progress, save_flac
from icebreaker.data.rewriting import ANSWER, QUESTION
from icebreaker.data.spread import Spread, here
from icebreaker.data.synthesis import Waveform
from icebreaker.data.tts import Speaker

__all__ = ["Units", "extract", "speak"]

Units = Callable[[NDArray[np.float32]], tuple[Sequence[int], Sequence[int]]]  # waveform to units and durations
UNIT_RATE = 16_000
GROUP = 40  # texts a synthesiser call


def speak(
    config: InstructS2SConfig,
    rows: list[dict[str, Any]],
    out: Path,
    journal: Journal,
    progress: Progress,
    spread: Spread = here,
) -> None:
    """Questions in voices drawn by seed and item, answers in the one voice; in order, a group at a time."""
    waiting = [row for row in rows if row["id"] not in journal]
    groups = [waiting[start : start + GROUP] for start in range(0, len(waiting), GROUP)]
    for group, spoken in zip(groups, spread(_Say(config), groups, config.speech_workers), strict=True):
        for row, said in zip(group, spoken, strict=True):
            journal.add(_recorded(config, row, said, out))
            progress(len(journal.rows), len(rows))


class _Said(NamedTuple):
    """Both sides of an item, None where a synthesiser could not; and the question's voice."""

    voice: str
    question: Waveform | None
    answer: Waveform | None


@dataclass(frozen=True)
class _Say:
    """Groups of rows to both sides of each. It can be pickled; the speakers are made where it arrives."""

    config: InstructS2SConfig

    @cached_property
    def speakers(self) -> list[Speaker]:
        return [Speaker(voice) for voice in (*self.config.question_voices, self.config.answer_voice)]

    def __call__(self, group: list[dict[str, Any]]) -> list[_Said]:
        config, speakers = self.config, self.speakers
        drawn = [_draw(config, speakers[:-1], row["id"]) for row in group]
        questions: dict[int, Waveform | None] = {}
        for speaker in dict.fromkeys(drawn):
            places = [i for i, one in enumerate(drawn) if one is speaker]
            said = speaker.speak([group[i][QUESTION] for i in places], config.question_rate)
            questions |= dict(zip(places, said, strict=True))
        answers = speakers[-1].speak([row[ANSWER] for row in group], config.answer_rate)
        return [_Said(drawn[i].config.name, questions[i], answers[i]) for i in range(len(group))]


def _draw(config: InstructS2SConfig, speakers: list[Speaker], name: str) -> Speaker:
    rng = random.Random(f"voice-{config.seed}-{name}")
    return rng.choices(speakers, [speaker.config.share for speaker in speakers])[0]


def _recorded(config: InstructS2SConfig, row: dict[str, Any], said: _Said, out: Path) -> dict[str, Any]:
    """Write both recordings; the row to remember them by."""
    if said.question is None or said.answer is None:
        return {"id": row["id"], "dropped": "synthesis failed"}
    seconds = len(said.question) / config.question_rate
    if seconds > config.most_question_seconds:
        return {"id": row["id"], "dropped": "question too slow"}
    save_flac(out / "audio" / f"{row['id']}-question.flac", said.question, config.question_rate)
    save_flac(out / "audio" / f"{row['id']}-answer.flac", said.answer, config.answer_rate)
    answer_seconds = round(len(said.answer) / config.answer_rate, 4)
    lengths = {"question_seconds": round(seconds, 4), "answer_seconds": answer_seconds}
    voices = {"question_voice": said.voice, "answer_voice": config.answer_voice.name}
    return {"id": row["id"], QUESTION: row[QUESTION], ANSWER: row[ANSWER], **voices, **lengths}


def extract(
    units: Units, rows: list[dict[str, Any]], out: Path, journal: Journal, progress: Progress, spread: Spread = here
) -> None:
    """The units of every answer, from its recording."""
    waiting = [row for row in rows if row["id"] not in journal]
    paths = [(out / "audio" / f"{row['id']}-answer.flac").absolute() for row in waiting]
    for row, (found, durations) in zip(waiting, spread(partial(_units_of, units), paths), strict=True):
        journal.add({"id": row["id"], "units": [int(u) for u in found], "durations": [int(d) for d in durations]})
        progress(len(journal.rows), len(rows))


def _units_of(units: Units, path: Path) -> tuple[Sequence[int], Sequence[int]]:
    return units(load_audio(path, UNIT_RATE))
