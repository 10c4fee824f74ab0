from pathlib import Path

import numpy as np
import pytest
import soundfile

from icebreaker.data.natives import TRANSCRIPTS, cut_natives
from icebreaker.data.text import normalise
from icebreaker.errors import DataError


@pytest.fixture
def transcripts(tmp_path: Path) -> Path:
    path = tmp_path / "transcripts.tsv"
    path.write_text("recording\tstart\tend\ttext\n12-3-4\t0.50\t1.50\tgood night\n12-3-4\t1.50\t1.75\tyes\n")
    return path


def test_pieces_are_cut_where_the_table_says(tmp_path: Path, transcripts: Path) -> None:
    ramp = np.linspace(0, 0.5, 48_000, dtype=np.float32)  # two seconds
    soundfile.write(tmp_path / "12-3-4.opus", ramp, 24_000, format="OGG", subtype="VORBIS")
    first, second = cut_natives(tmp_path, tmp_path / "audio", transcripts)
    assert (first.id, first.text, first.voice) == ("12-3-4-0050", "good night", "librispeech-12")
    assert (first.seconds, second.seconds) == (1.0, 0.25)
    assert first.split == second.split  # of one speaker
    waveform, rate = soundfile.read(first.audio)
    assert rate == 16_000
    assert waveform[800:-800].mean() == pytest.approx(0.25, abs=0.02)


def test_a_missing_recording_is_named(tmp_path: Path, transcripts: Path) -> None:
    with pytest.raises(DataError, match=r"12-3-4.opus: cannot read"):
        list(cut_natives(tmp_path, tmp_path / "audio", transcripts))


def test_what_ships_can_be_spelled() -> None:
    lines = TRANSCRIPTS.read_text().splitlines()[1:]
    assert len(lines) > 400
    for line in lines:
        recording, start, end, text = line.split("\t")
        assert recording.count("-") == 2
        assert 0.3 < float(end) - float(start) < 12
        assert normalise(text) == text
