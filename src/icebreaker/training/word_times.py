"""When each word of a recording is said, as ``align_words`` found. Knows nothing of recognisers, codes or models.

With word times an answer can be cut between words, as the dialogue cuts replies, and the speech decoder can be shown
which word it is speaking.
"""

import json
from pathlib import Path
from typing import NamedTuple

from icebreaker.errors import DataError

__all__ = ["WordTime", "read_word_times"]


class WordTime(NamedTuple):
    """One word: the characters of the text it stands at, and when it is said."""

    first: int
    last: int  # exclusive
    start_s: float
    end_s: float


def read_word_times(path: Path) -> dict[str, list[WordTime]]:
    """The words of each recording, by id, from {"id", "words": [[first, last, start_s, end_s], ..]} a line.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return {row["id"]: [WordTime(*word) for word in row["words"]] for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot read word times: {error}; write them with training.align_words") from error
