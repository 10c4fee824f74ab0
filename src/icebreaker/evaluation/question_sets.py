"""Question sets and their formats: LLaMA Questions, WebQuestions, TriviaQA, our own manifest. Loads no audio."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icebreaker.data.corpus import read_conversations
from icebreaker.data.manifest import Item, read_manifest
from icebreaker.errors import DataError

__all__ = ["FORMATS", "Question", "read_questions", "spread"]

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question and what counts as its answer.

    Attributes:
        id: unique within the set.
        text: as it is written.
        accepted: any of these in a response is right. In our own manifests it is one: the whole answer sentence.
        audio: a recording of it, where the set brings one.
        voice: who speaks in ``audio``.
    """

    id: str
    text: str
    accepted: tuple[str, ...]
    audio: Path | None = None
    voice: str = ""


def read_questions(
    kind: str, path: Path, *, audio: Path | None = None, split: str | None = "test", written: Path | None = None
) -> list[Question]:
    """The questions of ``path``, in order.

    Args:
        kind: one of ``FORMATS``.
        path: the file of the set.
        audio: folder of recordings; LLaMA Questions names its files, in other sets they are named ``<id>.wav``.
        split: of our own manifest; the other formats have none.
        written: folder of text conversations; restores case and marks that our own manifest does not keep.

    Raises:
        DataError: the file is missing, of another format or empty, or recordings are missing.
    """
    if kind not in FORMATS:
        raise DataError(f"expected a question set of kind {', '.join(FORMATS)}, got {kind!r}")
    questions = _from_manifest(path, split, written) if kind == "manifest" else list(FORMATS[kind](path, audio))
    if not questions:
        raise DataError(f"{path}: no questions with answers in it{f' in split {split}' if kind == 'manifest' else ''}")
    _check_unique(path, questions)
    absent = [str(question.audio) for question in questions if question.audio and not question.audio.is_file()]
    if absent:
        raise DataError(f"{path}: {len(absent)} recordings are missing, such as {', '.join(absent[:10])}")
    return questions


def spread(items: Sequence[Any], limit: int | None) -> list[Any]:
    """At most ``limit`` of ``items``, evenly spread, in order."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


def _from_manifest(path: Path, split: str | None, written: Path | None) -> list[Question]:
    items = [item for item in read_manifest(path, split) if item.answer]
    asked = _written_questions(written) if written else {}
    return [
        Question(
            id=item.id, text=asked.get(item.conversation or "") or _sentence(item), accepted=(item.answer or "",),
            audio=item.audio, voice=item.voice,
        )
        for item in items
    ]  # fmt: skip


def _sentence(item: Item) -> str:
    """A spoken question as a plain sentence, the way training writes it."""
    return item.text if item.text != item.text.lower() else f"{item.text.capitalize()}."


def _written_questions(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise DataError(f"{folder}: holds no *.jsonl of text conversations; give the folder of `icebreaker data text`")
    return {talk["id"]: talk["turns"][0]["text"] for file in files for talk in read_conversations(file)}


def _llama_questions(path: Path, audio: Path | None) -> Iterator[Question]:
    rows = list(csv.DictReader(_read(path).splitlines(), delimiter="\t"))
    if rows and (missing := [name for name in ("Questions", "Answer") if name not in rows[0]]):
        raise DataError(
            f"{path}: no column {missing[0]!r}; expected tabs and the columns Questions, Answer, Wav Filename"
        )
    for number, row in enumerate(rows, start=1):
        name = (row.get("Wav Filename") or "").strip()
        file = audio / name if audio and name else None
        yield Question(id=f"llama-{number:04d}", text=row["Questions"].strip(), accepted=(row["Answer"].strip(),),
                       audio=file, voice="llama-questions" if file else "")  # fmt: skip


def _web_questions(path: Path, audio: Path | None) -> Iterator[Question]:
    for number, row in enumerate(_records(path), start=1):
        text = row.get("question") or row.get("utterance")
        answers = row.get("answers", row.get("answer"))
        if answers is None and "targetValue" in row:  # the release of 2013: (list (description "a b") (description c))
            found = re.findall(r'\(description (?:"([^"]*)"|([^)\s]+))\)', row["targetValue"])
            answers = [quoted or bare for quoted, bare in found]
        answers = [answers] if isinstance(answers, str) else answers
        if not text or not answers:
            raise DataError(f"{path}: entry {number} has no question or no answers; got the keys {sorted(row)}")
        yield _with_audio(f"web-{number:04d}", text, answers, audio)


def _trivia_qa(path: Path, audio: Path | None) -> Iterator[Question]:
    for number, row in enumerate(_records(path), start=1):
        lower = {key.lower(): value for key, value in row.items()}
        answer = lower.get("answer")
        if not isinstance(answer, dict) or not lower.get("question"):
            raise DataError(f"{path}: entry {number} has no Question, or no Answer with Value and Aliases")
        answer = {key.lower(): value for key, value in answer.items()}
        accepted = [answer["value"], *answer.get("aliases", []), *answer.get("normalizedaliases", [])]
        name = str(lower.get("questionid") or lower.get("question_id") or f"trivia-{number:05d}")
        yield _with_audio(name, lower["question"], accepted, audio)


def _with_audio(name: str, text: str, accepted: Sequence[str], folder: Path | None) -> Question:
    audio = None
    if folder:
        files = [folder / f"{name}{suffix}" for suffix in AUDIO_SUFFIXES]
        audio = next((file for file in files if file.is_file()), files[0])
    accepted = tuple(dict.fromkeys(str(answer) for answer in accepted))
    return Question(id=name, text=text.strip(), accepted=accepted, audio=audio, voice=folder.name if folder else "")


def _records(path: Path) -> list[dict[str, Any]]:
    """A JSON list, an object that holds one under "Data" or "data", or JSON lines."""
    text = _read(path)
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        try:
            values = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: neither JSON nor JSON lines: {error}") from error
    if isinstance(values, dict):
        values = values.get("Data") or values.get("data") or [values]
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError(f"{path}: expected a list of questions")
    return values


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read this question set: {error}") from error


def _check_unique(path: Path, questions: Sequence[Question]) -> None:
    seen, twice = set[str](), list[str]()
    for question in questions:
        (twice.append if question.id in seen else seen.add)(question.id)
    if twice:
        raise DataError(f"{path}: {len(twice)} ids occur more than once, such as {', '.join(twice[:10])}")


FORMATS = {"manifest": _web_questions, "llama": _llama_questions, "web": _web_questions, "trivia": _trivia_qa}
