"""What a long recipe has done so far: a file of JSON lines, one an item, that a kill leaves usable. Knows no recipe."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from icebreaker.errors import DataError

__all__ = ["Journal"]


class Journal:
    """Rows by ``id``, in the order they were added; each is with the system before ``add`` returns.

    A line cut short by a kill is cut off when the file is opened again: its item was not done.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                row = json.loads(line)
                self.rows[row["id"]] = row
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}:{number}: not a row of this recipe: {error}; remove the file") from error
        self.file = path.open("r+b" if content else "wb")
        self.file.truncate(whole)
        self.file.seek(whole)

    def __contains__(self, name: str) -> bool:
        return name in self.rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append ``row``, which has an ``id`` that is not there yet.

        Raises:
            DataError: it could not be written; the rows before it are whole.
        """
        assert row["id"] not in self.rows
        try:
            self.file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self.file.flush()
        except OSError as error:
            raise DataError(f"{self.path}: could not be written: {error}; free some disk space, run again") from error
        self.rows[row["id"]] = dict(row)
