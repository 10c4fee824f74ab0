"""InstructS2S, the steps of sound: questions in many voices, answers in one, and the answers' units."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.pcm import load_audio
from icebreaker.data.instruct_s2s_config import InstructS2SConfig
from icebreaker.data.journal import Journal
from icebreaker.data.recording import Progress, save_flac
from icebreaker.data.rewriting import ANSWER, QUESTION
from icebreaker.data.tts import Speaker

__all__ = ["Units", "extract", "speak"]

Units = Callable[[NDArray[np.float32]], tuple[Sequence[int], Sequence[int]]]  # waveform to units and durations
UNIT_RATE = 16_000
GROUP = 40  # texts a synthesiser call


def speak(
    config: InstructS2SConfig,
    speakers: list[Speaker],
    rows: list[dict[str, Any]],
    out: Path,
    journal: Journal,
    progress: Progress,
) -> None:
    """Questions in voices drawn by seed and item, answers in the one voice; in order, a group at a time."""
    waiting = [row for row in rows if row["id"] not in journal]
    for start in range(0, len(waiting), GROUP):
        group = waiting[start : start + GROUP]
        drawn = [_draw(config, speakers[:-1], row["id"]) for row in group]
        questions: dict[int, Any] = {}
        for speaker in dict.fromkeys(drawn):
            places = [i for i, one in enumerate(drawn) if one is speaker]
            texts = [group[i][QUESTION] for i in places]
            questions |= dict(zip(places, speaker.speak(texts, config.question_rate), strict=True))
        answers = speakers[-1].speak([row[ANSWER] for row in group], config.answer_rate)
        for i, row in enumerate(group):
            journal.add(_recorded(config, row, drawn[i].config.name, questions[i], answers[i], out))
            progress(len(journal.rows), len(rows))


def _draw(config: InstructS2SConfig, speakers: list[Speaker], name: str) -> Speaker:
    rng = random.Random(f"voice-{config.seed}-{name}")
    return rng.choices(speakers, [speaker.config.share for speaker in speakers])[0]


def _recorded(
    config: InstructS2SConfig, row: dict[str, Any], voice: str, question: Any, answer: Any, out: Path
) -> dict[str, Any]:
    """Write both recordings; the row to remember them by."""
    if question is None or answer is None:
        return {"id": row["id"], "dropped": "synthesis failed"}
    seconds = len(question) / config.question_rate
    if seconds > config.most_question_seconds:
        return {"id": row["id"], "dropped": "question too slow"}
    for kind, waveform, rate in (("question", question, config.question_rate), ("answer", answer, config.answer_rate)):
        save_flac(out / "audio" / f"{row['id']}-{kind}.flac", waveform, rate)
    lengths = {"question_seconds": round(seconds, 4), "answer_seconds": round(len(answer) / config.answer_rate, 4)}
    voices = {"question_voice": voice, "answer_voice": config.answer_voice.name}
    return {"id": row["id"], QUESTION: row[QUESTION], ANSWER: row[ANSWER], **voices, **lengths}


def extract(units: Units, rows: list[dict[str, Any]], out: Path, journal: Journal, progress: Progress) -> None:
    """The units of every answer, from its recording."""
    for row in rows:
        if row["id"] in journal:
            continue
        found, durations = units(load_audio(out / "audio" / f"{row['id']}-answer.flac", UNIT_RATE))
        journal.add({"id": row["id"], "units": [int(u) for u in found], "durations": [int(d) for d in durations]})
        progress(len(journal.rows), len(rows))
