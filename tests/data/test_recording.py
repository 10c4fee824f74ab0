"""Recordings appear whole or not at all."""

import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile

from icebreaker.data.recording import save_flac, seconds_of
from icebreaker.errors import DataError


def noise(samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def test_what_is_written_is_what_the_library_writes(tmp_path: Path) -> None:
    save_flac(tmp_path / "new" / "ours.flac", noise(16_000), 16_000)
    soundfile.write(tmp_path / "theirs.flac", noise(16_000), 16_000, subtype="PCM_16")
    assert (tmp_path / "new" / "ours.flac").read_bytes() == (tmp_path / "theirs.flac").read_bytes()
    assert seconds_of(tmp_path / "new" / "ours.flac") == 1.0


@pytest.mark.parametrize("samples", [8_000, 200_000])
def test_a_full_disk_leaves_nothing_of_a_recording(tmp_path: Path, samples: int) -> None:
    """No file may exceed 10 kB here, which the system reports as it reports a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(DataError, match=r"a.flac: could not be written: .*; free some disk space, run again"):
            save_flac(tmp_path / "a.flac", noise(samples), 16_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
