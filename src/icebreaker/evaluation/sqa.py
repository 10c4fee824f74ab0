"""Spoken question answering: the same questions in writing (T→T), by ear (A→T), and by ear and mouth (A→S)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icebreaker.audio.pcm import load_audio, save_wav
from icebreaker.errors import ConfigError
from icebreaker.evaluation.answers import is_correct
from icebreaker.evaluation.measures import share
from icebreaker.evaluation.published import SPOKEN_QA
from icebreaker.evaluation.question_sets import Question
from icebreaker.evaluation.recognisers import RECOGNISER_RATE, ClosedSet, load_recogniser
from icebreaker.evaluation.recordings import HELD_OUT, recording_of, with_noise
from icebreaker.evaluation.report import Cell, Chart, Report, Table
from icebreaker.evaluation.run import Run

__all__ = ["SqaConfig", "evaluate_sqa"]

TASKS = ("T→T", "A→T", "A→S")


@dataclass(frozen=True, kw_only=True)
class SqaConfig:
    """How to ask.

    Attributes:
        name: of the question set: manifest, llama, web or trivia.
        snr_db: noise levels beside quiet.
        voices: synthesisers that ask questions without a recording.
        recogniser: that hears the answers: ``closed`` (which of the accepted and written answers was said?),
            ``pocketsphinx``, ``whisper`` or a Whisper folder; empty: no A→S.
    """

    name: str = "manifest"
    snr_db: tuple[float, ...] = ()
    voices: tuple[str, ...] = HELD_OUT
    recogniser: str = "closed"


def evaluate_sqa(run: Run, questions: Sequence[Question], config: SqaConfig) -> Report:
    """Ask, listen, score; every reply is kept, so a run that was stopped goes on where it was."""
    asked = _by_voice(run, questions, config.voices)
    log = run.log("sqa", {"set": config.name})
    conditions: list[float | None] = [None, *config.snr_db]
    total, done = len(questions) + len(asked) * len(conditions), 0
    written, spoken = dict[str, dict[str, Any]](), list[dict[str, Any]]()
    for question in questions:
        written[question.id] = _in_writing(run, log, question)
        done += 1
        run.progress(done, total)
    for snr_db in conditions:
        for question in asked:
            spoken.append(_aloud(run, log, question, snr_db))
            done += 1
            run.progress(done, total)
    unheard = _hear_answers(run, questions, spoken, config) if config.recogniser else 0
    accepted = {question.id: question.accepted for question in questions}
    hits = _hits(accepted, written, spoken)
    return _report(run, config, hits, unheard, {"questions": len(questions), "recordings": len(asked)})


def _by_voice(run: Run, questions: Sequence[Question], voices: Sequence[str]) -> list[Question]:
    """Questions with recordings as they are, each other one in every voice."""
    if not voices and any(question.audio is None for question in questions):
        raise ConfigError("some questions have no recording: name a synthesiser's voice, or a folder of recordings")
    asked = []
    for question in questions:
        if question.audio is not None:
            asked.append(question)
            continue
        for voice in voices:
            asked.append(
                replace(question, audio=recording_of(question.text, voice, run.out / "questions"), voice=voice)
            )
    return asked


def _in_writing(run: Run, log: Any, question: Question) -> dict[str, Any]:
    key = f"text|{question.id}|{question.text}"
    if key not in log:
        log.add(key, {"text": run.system.write(question.text, seed=run.seed)})
    result: dict[str, Any] = log[key]
    return result


def _aloud(run: Run, log: Any, question: Question, snr_db: float | None) -> dict[str, Any]:
    assert question.audio is not None
    condition = "quiet" if snr_db is None else f"{snr_db:g} dB"
    key = f"{condition}|{question.voice}|{question.id}|{question.audio}"
    path = run.out / "answers" / log.digest / f"{_file_name(question)}-{condition.replace(' ', '')}.wav"
    if key not in log or (log[key]["seconds"] and not path.is_file()):
        noisy = with_noise(question.audio, snr_db, f"{run.seed}|{question.id}")
        answer = run.system.answer(noisy, seed=run.seed)
        if len(answer.waveform):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_wav(path, answer.waveform, answer.sample_rate)
        log.add(key, {"text": answer.text, "heard": answer.heard, "seconds": len(answer.waveform) / answer.sample_rate})
    return {**log[key], "id": question.id, "voice": question.voice, "condition": condition, "file": path, "key": key}


def _file_name(question: Question) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in f"{question.id}-{question.voice}")


def _hear_answers(run: Run, questions: Sequence[Question], spoken: list[dict[str, Any]], config: SqaConfig) -> int:
    """Add ``said`` to each spoken answer; the number of sentences that the recogniser cannot know."""
    candidates = {reply["text"] for reply in spoken} | {text for question in questions for text in question.accepted}
    closed = config.recogniser == "closed"
    options = {"recogniser": config.recogniser, "sentences": sorted(candidates) if closed else None, "set": config.name}
    log = run.log("sqa-heard", options)
    recogniser = ClosedSet(candidates) if closed else load_recogniser(config.recogniser)
    for number, reply in enumerate(spoken, start=1):
        if reply["key"] not in log:
            file: Path = reply["file"]
            said = recogniser.transcribe(load_audio(file, RECOGNISER_RATE)) if reply["seconds"] else ""
            log.add(reply["key"], {"said": said})
        reply["said"] = log[reply["key"]]["said"]
        run.progress(number, len(spoken))
    return len(recogniser.unknown) if isinstance(recogniser, ClosedSet) else 0


def _hits(
    accepted: Mapping[str, Sequence[str]], written: Mapping[str, Mapping[str, Any]], spoken: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str, str], list[bool]]:
    """Right or wrong, by (condition, voice, task); voice "all" holds every voice."""
    hits = defaultdict[tuple[str, str, str], list[bool]](list)
    for name, reply in written.items():
        hits["writing", "all", "T→T"].append(is_correct(reply["text"], accepted[name]))
    for reply in spoken:
        for voice in ("all", reply["voice"] or "unknown"):
            place = reply["condition"], voice
            hits[*place, "A→T"].append(is_correct(reply["text"], accepted[reply["id"]]))
            if "said" in reply:
                hits[*place, "A→S"].append(is_correct(reply["said"], accepted[reply["id"]]))
    return dict(hits)


def _report(
    run: Run, config: SqaConfig, hits: Mapping[tuple[str, str, str], list[bool]], unheard: int, sizes: Mapping[str, int]
) -> Report:
    figures = {" | ".join(place): share(rows) for place, rows in hits.items()}
    rows: list[list[Cell]] = [
        [condition, voice, task, figure["percent"], f"{figure['low']:.1f} to {figure['high']:.1f}", figure["count"]]
        for (condition, voice, task), figure in zip(hits, figures.values(), strict=True)
    ]
    tables = [Table("Right answers", ("condition", "voice", "task", "%", "95 % interval", "n"), rows)]
    published = {name: row[config.name] for name, row in SPOKEN_QA.items() if row.get(config.name) is not None}
    if published:
        tables.append(Table("Published, same set", ("system, task", "%"), [[*each] for each in published.items()]))
    options = {"set": config.name, **sizes, "recogniser": config.recogniser or "none"}
    notes = ["T→T: text in, text out. A→T: speech in, text out. A→S: speech in, speech out, heard by the recogniser."]
    if config.name == "manifest":
        notes.append("The accepted answer is the whole answer sentence of the manifest, normalised.")
    if config.recogniser == "closed":
        notes.append(
            "A→S by a grammar of all accepted answers and all answers that the model wrote: a wrong word counts only "
            f"where it makes another of these sentences. {unheard} of them have words outside the dictionary."
        )
    bars = {f"{' '.join(place)}": share(rows)["percent"] for place, rows in hits.items() if place[1] == "all"}
    chart = Chart(
        "Spoken question answering", "right answers, %", bars, {k: float(v or 0) for k, v in published.items()}
    )
    return Report("sqa", figures, run.facts(options), tables, notes, chart)
