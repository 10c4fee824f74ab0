from pathlib import Path

import pytest

from icebreaker.data.journal import Journal
from icebreaker.errors import DataError


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    with Journal(tmp_path / "a" / "rows.jsonl") as journal:
        journal.add({"id": "b", "x": 1})
        journal.add({"id": "a", "x": "é"})
    with Journal(tmp_path / "a" / "rows.jsonl") as journal:
        assert list(journal.rows.values()) == [{"id": "b", "x": 1}, {"id": "a", "x": "é"}]
        assert "b" in journal
        assert "c" not in journal


def test_a_row_is_in_the_file_before_add_returns(tmp_path: Path) -> None:
    with Journal(tmp_path / "rows.jsonl") as journal:
        journal.add({"id": "a"})
        assert (tmp_path / "rows.jsonl").read_text() == '{"id": "a"}\n'


@pytest.mark.parametrize("kept", range(1, 12))
def test_a_line_cut_short_was_not_done(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": "a"}\n' + b'{"id": "b"}\n'[:kept])
    with Journal(path) as journal:
        assert list(journal.rows) == ["a"]
        journal.add({"id": "b", "again": True})
    assert path.read_text() == '{"id": "a"}\n{"id": "b", "again": true}\n'


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a"}\nrubbish\n{"id": "b"}\n')
    with pytest.raises(DataError, match=r"rows.jsonl:2: not a row"):
        Journal(path)
