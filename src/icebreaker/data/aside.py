"""Files appear whole or not at all: written aside, then renamed. Knows nothing of what is in them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import soundfile

from icebreaker.errors import DataError

__all__ = ["written_aside"]


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; it becomes ``path`` at the end of the block, or nothing stays of it.

    Raises:
        DataError: it could not be written; what was at ``path`` before is whole.
    """
    aside = path.with_name(f"{path.name}.aside")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        aside.replace(path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"{path}: could not be written: {error}; free some disk space, run again") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
