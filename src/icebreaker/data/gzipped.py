"""Gzipped JSON lines, as the data folder holds them."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icebreaker.errors import DataError

__all__ = ["read_gzip"]


def read_gzip(path: Path) -> Iterator[dict[str, Any]]:
    """One row a line.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, EOFError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot read: {error}; --source must be the data folder") from error
