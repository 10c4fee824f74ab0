import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from icebreaker.data.manifest import Item
from icebreaker.errors import DataError
from icebreaker.training.align_words import words_of, write_word_times
from icebreaker.training.word_times import WordTime, read_word_times


def test_words_and_where_they_stand() -> None:
    assert words_of("I'm well-read, Ann!") == [("i'm", 0, 3), ("well", 4, 8), ("read", 9, 13), ("ann", 15, 18)]


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_words_follow_each_other(tmp_path: Path) -> None:
    subprocess.run(["espeak-ng", "-w", str(tmp_path / "a.wav"), "The sky is blue."], check=True)
    item = Item(id="a", audio=tmp_path / "a.wav", seconds=1.5, text="The sky is blue.")
    strange = Item(id="b", audio=tmp_path / "a.wav", seconds=1.5, text="The qwrtz is 5.")
    path = tmp_path / "times.jsonl"
    assert write_word_times([item, strange], path) == 1
    words = read_word_times(path)["a"]
    assert [(word.first, word.last) for word in words] == [(0, 3), (4, 7), (8, 10), (11, 15)]
    assert all(word.start_s < word.end_s for word in words)
    assert all(a.end_s <= b.start_s + 1e-6 for a, b in pairwise(words))
    assert 0.2 < words[3].start_s < 1.2


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "times.jsonl"
    path.write_text('{"id": "a", "words": [[0, 3, 0.0, 0.5]]}')
    assert read_word_times(path) == {"a": [WordTime(0, 3, 0.0, 0.5)]}
    path.write_text('{"id": "a"}')
    with pytest.raises(DataError, match=r"times\.jsonl: cannot read word times"):
        read_word_times(path)
