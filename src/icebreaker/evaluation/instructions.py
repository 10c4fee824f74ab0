"""Spoken instructions and their formats: our own manifest, and LLaMA-Omni's question files. Loads no audio."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icebreaker.data.manifest import read_manifest
from icebreaker.errors import DataError

__all__ = ["Instruction", "read_instructions"]


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Something that is asked for aloud.

    Attributes:
        id: unique in the set.
        audio: the recording; None: ``text`` is to be synthesised.
        text: what is said in it; empty where the set does not tell, and a recogniser has to.
        voice: who speaks.
    """

    id: str
    audio: Path | None
    text: str = ""
    voice: str = ""


def read_instructions(path: Path, *, audio: Path | None = None, split: str | None = "test") -> list[Instruction]:
    """The instructions of ``path``: a ``.jsonl`` manifest, or a JSON list in LLaMA-Omni's format.

    That format is ``[{"id", "speech": path, "conversations": [{"from": "human", "value": ..}]}]``; a ``text`` key is
    read where there is one, and an entry with text and without speech is synthesised.

    Args:
        path: the file.
        audio: folder that the paths of a JSON list start from; default: its own.
        split: of a manifest.

    Raises:
        DataError: the file is missing, empty or of another format, or recordings are missing.
    """
    if path.suffix == ".jsonl":
        items = read_manifest(path, split)
        found = [Instruction(id=item.id, audio=item.audio, text=item.text, voice=item.voice) for item in items]
    else:
        found = [_parse(row, f"{path}: entry {number}", audio or path.parent) for number, row in enumerate(_rows(path))]
    if not found:
        raise DataError(f"{path}: no instructions in it{f' in split {split}' if path.suffix == '.jsonl' else ''}")
    if len({each.id for each in found}) < len(found):
        raise DataError(f"{path}: instructions share an id; make them unique")
    missing = [str(each.audio) for each in found if each.audio is not None and not each.audio.is_file()]
    if missing:
        raise DataError(f"{path}: {len(missing)} recordings are missing, such as {', '.join(missing[:10])}")
    return found


def _rows(path: Path) -> list[Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a JSON list of instructions: {error}") from error
    if not isinstance(values, list):
        raise DataError(f"{path}: expected a JSON list of instructions, got {type(values).__name__}")
    return values


def _parse(row: Any, where: str, folder: Path) -> Instruction:
    if not isinstance(row, dict) or "id" not in row or not (row.get("speech") or row.get("text")):
        raise DataError(f"{where}: expected id and speech (or text), got {str(row)[:80]}")
    speech = row.get("speech")
    return Instruction(
        id=str(row["id"]), audio=folder / str(speech) if speech else None, text=str(row.get("text") or "").strip(),
        voice=folder.name if speech else "",
    )  # fmt: skip
