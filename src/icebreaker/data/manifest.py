"""Lists of recordings, one JSON object a line. Knows nothing of how the audio was made or is used.

A line holds ``id``, ``audio`` (a path relative to the manifest), ``seconds`` and ``text`` (what is said), and where
known ``answer``, ``voice``, ``split`` and ``conversation`` (the id of the text conversation it comes from).
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icebreaker.data.aside import written_aside
from icebreaker.errors import DataError

__all__ = ["Item", "read_manifest", "write_manifest"]

TYPES: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "audio": (str,),
    "seconds": (int, float),
    "text": (str,),
    "answer": (str, type(None)),
    "voice": (str,),
    "split": (str,),
    "conversation": (str, type(None)),
}
REQUIRED = ("id", "audio", "seconds", "text")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One recording: where it lies, how long it is, what is said in it."""

    id: str
    audio: Path
    seconds: float
    text: str
    answer: str | None = None
    voice: str = ""
    split: str = "train"
    conversation: str | None = None


def read_manifest(path: Path, split: str | None = None) -> list[Item]:
    """The items of ``path``, in order; of one split where ``split`` is given. Audio paths come out complete.

    Raises:
        DataError: the file is missing or a line does not fit; the message names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read this manifest: {error}; build it with `icebreaker data`") from error
    items = [_parse(line, path, number) for number, line in enumerate(lines, start=1)]
    return [item for item in items if split is None or item.split == split]


def write_manifest(path: Path, items: Iterable[Item]) -> None:
    """Write ``items`` aside, then put the complete file in place.

    Raises:
        DataError: the disk is full; what was there before is whole.
    """
    with written_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        for item in items:
            values = {name: getattr(item, name) for name in TYPES}
            values["audio"] = os.path.relpath(item.audio, path.parent)
            file.write(json.dumps(values) + "\n")


def _parse(line: str, path: Path, number: int) -> Item:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{number}: not JSON: {error}; rebuild the manifest") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}:{number}: expected an object, got {type(values).__name__}")
    _check(values, f"{path}:{number}")
    known = {name: values[name] for name in TYPES if name in values}
    return Item(**{**known, "audio": path.parent / values["audio"], "seconds": float(values["seconds"])})


def _check(values: dict[str, Any], where: str) -> None:
    if missing := [name for name in REQUIRED if name not in values]:
        raise DataError(f"{where}: missing {missing[0]!r}; a line needs {', '.join(REQUIRED)}")
    for name, types in TYPES.items():
        if name in values and (not isinstance(values[name], types) or isinstance(values[name], bool)):
            raise DataError(f"{where}: {name} should be {types[0].__name__}, got {values[name]!r}")
    if not values["seconds"] > 0:
        raise DataError(f"{where}: seconds should be positive, got {values['seconds']!r}")
