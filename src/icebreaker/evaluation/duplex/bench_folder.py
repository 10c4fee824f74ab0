"""Full-Duplex-Bench's folders (v1) as scenes. Written from its dataset's description; runs none of its code.

Assumed: ``<task>/<id>/input.wav`` with, by task, ``pause.json``, ``turn_taking.json`` or ``interrupt.json`` (lists of
``{"timestamp": [start, end], ..}``) and ``transcription.json`` (``{"text", "timestamp"}`` a word), times in seconds.
The turn of ``turn_taking.json`` ends where its timestamp begins; an interruption is heard during its timestamp.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile

from icebreaker.audio.fbank import SAMPLE_RATE
from icebreaker.audio.pcm import load_audio, save_wav
from icebreaker.errors import DataError
from icebreaker.evaluation.duplex.metrics import Word
from icebreaker.evaluation.duplex.scenes import Cue, Part, Scene, write_scenes

__all__ = ["import_bench"]

TAIL_S = 8.0  # beyond the recording, which mostly brings its own silence


def import_bench(root: Path, out: Path) -> list[Scene]:
    """Scenes of every task folder under ``root`` (or of ``root`` itself), written to ``out``.

    Raises:
        DataError: there are none, or an annotation does not fit.
    """
    folders = sorted(path for path in (root, *root.glob("*")) if path.is_dir())
    scenes = [
        make(sample, f"{folder.name}-{sample.name}", out)
        for folder in folders
        for task, make in TASKS.items()
        if task in folder.name
        for sample in sorted(folder.iterdir())
        if (sample / "input.wav").is_file()
    ]
    if not scenes:
        raise DataError(
            f"{root}: expected folders such as candor_turn_taking/1/input.wav, found none ({', '.join(TASKS)})"
        )
    write_scenes(out / "scenes.jsonl", scenes)
    return scenes


def _pause(sample: Path, name: str, out: Path) -> Scene:
    """The user holds the floor to the last word of the transcript."""
    _timestamps(sample / "pause.json")  # checked, not needed: no moment before the last word is free
    return _whole(sample, name, "pause", _words(sample))


def _turn_taking(sample: Path, name: str, out: Path) -> Scene:
    end_s = _timestamps(sample / "turn_taking.json")[0][0]
    words = [word for word in _words(sample) if word.start_s < end_s] or [Word("", 0.0, end_s)]
    return _whole(sample, name, "turn", [*words[:-1], words[-1]._replace(end_s=end_s)])


def _backchannel(sample: Path, name: str, out: Path) -> Scene:
    return _whole(sample, name, "monologue", _words(sample))


def _interruption(sample: Path, name: str, out: Path) -> Scene:
    """The recording in two parts, so that what is scored begins with the interruption."""
    start_s, end_s = _timestamps(sample / "interrupt.json")[0]
    waveform = load_audio(sample / "input.wav", SAMPLE_RATE)
    cut, folder = round(start_s * SAMPLE_RATE), out / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}-{number}.wav" for number in (1, 2)]
    for file, piece in zip(files, (waveform[:cut], waveform[cut:]), strict=True):
        save_wav(file, piece, SAMPLE_RATE)
    parts = (
        Part(role="question", audio=files[0], words=(Word("", 0.0, start_s),), cue=Cue(at_s=0.0)),
        Part(role="interruption", audio=files[1], words=(Word("", 0.0, end_s - start_s),), cue=Cue(at_s=start_s)),
    )
    return Scene(id=name, kind="interruption", parts=parts, tail_s=TAIL_S, voice=sample.parent.name)


TASKS: dict[str, Callable[[Path, str, Path], Scene]] = {
    "pause_handling": _pause, "turn_taking": _turn_taking, "backchannel": _backchannel,
    "user_interruption": _interruption,
}  # fmt: skip


def _whole(sample: Path, name: str, kind: str, words: list[Word]) -> Scene:
    part = Part(role="question", audio=sample / "input.wav", words=tuple(words), cue=Cue(at_s=0.0))
    return Scene(id=name, kind=kind, parts=(part,), tail_s=TAIL_S, voice=sample.parent.name)


def _words(sample: Path) -> list[Word]:
    """The transcript's words, or one word for all of the recording where there is none."""
    path = sample / "transcription.json"
    if not path.is_file():
        return [Word("", 0.0, float(soundfile.info(sample / "input.wav").duration))]
    rows = _rows(path)
    try:
        words = [Word(str(row["text"]), float(row["timestamp"][0]), float(row["timestamp"][1])) for row in rows]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path}: expected words with text and timestamp, got {error}") from error
    return words or [Word("", 0.0, float(soundfile.info(sample / "input.wav").duration))]


def _timestamps(path: Path) -> list[tuple[float, float]]:
    try:
        found = [(float(row["timestamp"][0]), float(row["timestamp"][1])) for row in _rows(path)]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path}: expected [{{'timestamp': [start, end]}}], got {error}") from error
    if not found:
        raise DataError(f"{path}: expected at least one timestamp, got none")
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read this annotation: {error}") from error
    values = values.get("chunks", [values]) if isinstance(values, dict) else values
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError(f"{path}: expected a list of objects")
    return values
