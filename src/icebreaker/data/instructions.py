"""Text instruction sets in the Alpaca and UltraChat layouts, JSON or JSON lines, gzipped or not. Knows no speech.

    Alpaca      {"instruction": ..., "input": ..., "output": ...}
    UltraChat   {"id": ..., "data": [user, assistant, user, ...]}, or {"messages": [{"role": ..., "content": ...}, ...]}

Only what the user says first is taken, as arXiv:2409.06666v2 does; the recipe writes answers of its own.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icebreaker.errors import DataError

__all__ = ["Instruction", "read_instructions"]

ID_LETTERS = 16


@dataclass(frozen=True)
class Instruction:
    """What a user wants, in writing. ``id`` is a hash of the text, so the same request is the same item anywhere."""

    id: str
    text: str


def read_instructions(paths: Iterable[Path], limit: int | None = None) -> list[Instruction]:
    """The distinct instructions of ``paths``, in order, at most ``limit``; the layout is told by the keys.

    Raises:
        DataError: a file is missing or damaged, or an entry has neither layout; the message names file and entry.
    """
    found: dict[str, Instruction] = {}
    for path in paths:
        for number, entry in enumerate(_entries(path), start=1):
            if limit is not None and len(found) >= limit:
                break
            text = _request(entry, f"{path}, entry {number}").strip()
            name = hashlib.sha256(text.encode()).hexdigest()[:ID_LETTERS]
            found.setdefault(name, Instruction(name, text))
    return list(found.values())


def _entries(path: Path) -> Iterator[Any]:
    """The entries of a JSON list or of JSON lines."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            first = file.readline()
            if first.lstrip().startswith("["):
                yield from json.loads(first + file.read())
                return
            for line in _chain(first, file):
                if line.strip():
                    yield json.loads(line)
    except (OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not a JSON list or JSON lines of instructions: {error}") from error


def _chain(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _request(entry: Any, where: str) -> str:
    match entry:
        case {"instruction": str(instruction)}:
            more = entry.get("input") or ""
            return f"{instruction}\n{more}" if isinstance(more, str) and more.strip() else instruction
        case {"data": [str(first), *_]}:
            return first
        case {"messages": [*messages]}:
            return _first_user(messages, where)
    keys = ", ".join(sorted(map(str, entry))) if isinstance(entry, Mapping) else type(entry).__name__
    raise DataError(f'{where}: expected "instruction" (Alpaca), or "data" or "messages" (UltraChat), got {keys}')


def _first_user(messages: list[Any], where: str) -> str:
    for message in messages:
        if isinstance(message, Mapping) and message.get("role") == "user":
            return str(message.get("content") or "")
    raise DataError(f"{where}: no message with the role user")
