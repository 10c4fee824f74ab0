"""``metrics.jsonl`` of a run: one row of figures a line, whole lines only, none of steps that are taken again."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from icebreaker.errors import TrainingError

__all__ = ["append_row", "forget_after"]


def forget_after(path: Path, step: int) -> None:
    """Drop the figures of steps that a resumed run takes again, and half a line that a kill left."""
    if not path.exists():
        return
    lines = path.read_bytes().decode(errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _is_row(line) and json.loads(line)["step"] <= step]
    if len(kept) == len(lines):
        return
    aside = path.with_suffix(".partial")
    try:
        aside.write_text("".join(kept))
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise TrainingError(f"{path}: could not be written: {error}; free some disk space and start again") from error


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append a whole line or nothing: half a line would spoil the next one."""
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, before)
        raise TrainingError(
            f"{path}: could not write the figures of step {row['step']}: {error}; "
            "free some disk space and start again, the last saved checkpoint is whole"
        ) from error


def _is_row(line: str) -> bool:
    try:
        return line.endswith("\n") and isinstance(json.loads(line)["step"], int)
    except (ValueError, KeyError, TypeError):
        return False
