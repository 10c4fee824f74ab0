"""What ears wrote down of recordings, as stage heard_text leaves it. Knows nothing of ears or of training."""

import json
from collections.abc import Mapping
from pathlib import Path

from icebreaker.errors import DataError

__all__ = ["PAUSE", "HeardRows", "read_heard"]

PAUSE = -1
HeardRows = Mapping[str, list[list[int]]]  # by what was said: token ids, PAUSE where no token was heard


def read_heard(path: Path) -> HeardRows:
    """Read {"text", "tokens"} lines.

    Raises:
        DataError: the file is missing or damaged.
    """
    rows: dict[str, list[list[int]]] = {}
    try:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            rows.setdefault(row["text"], []).append([int(token) for token in row["tokens"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot read what was heard: {error!r}; run stage heard_text first") from error
    return rows
