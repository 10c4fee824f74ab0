import gzip
import json
from pathlib import Path

import pytest

from icebreaker.data.instructions import read_instructions
from icebreaker.errors import DataError

ALPACA = [
    {"instruction": "Name a colour.", "input": "", "output": "Red."},
    {"instruction": "Fix this.", "input": "He go.", "output": "He goes."},
    {"instruction": "Name a colour.", "input": "", "output": "Blue."},
]
ULTRACHAT = [{"id": "0", "data": ["Why is the sky blue?", "Because.", "Really?"]}]
MESSAGES = [
    {
        "prompt_id": "x",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": " Tell me a joke. "}],
    }
]


def test_every_layout_and_container(tmp_path: Path) -> None:
    (tmp_path / "alpaca.json").write_text(json.dumps(ALPACA, indent=1))
    (tmp_path / "ultrachat.jsonl").write_text("\n".join(map(json.dumps, ULTRACHAT)) + "\n\n")
    with gzip.open(tmp_path / "hub.jsonl.gz", "wt") as file:
        file.write(json.dumps(MESSAGES[0]))
    found = read_instructions([tmp_path / name for name in ("alpaca.json", "ultrachat.jsonl", "hub.jsonl.gz")])
    assert [item.text for item in found] == [
        "Name a colour.", "Fix this.\nHe go.", "Why is the sky blue?", "Tell me a joke."
    ]  # fmt: skip
    assert len({item.id for item in found}) == 4
    assert read_instructions([tmp_path / "alpaca.json"], 1)[0].id == found[0].id
    assert len(read_instructions([tmp_path / "alpaca.json", tmp_path / "ultrachat.jsonl"], 2)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "x"}', "entry 1: expected .instruction.*got prompt"),
        ('{"instruction": "a"}\n{"messages": [{"role": "assistant", "content": "x"}]}', "entry 2: no message with"),
        ('{"instruction": ', "not a JSON list or JSON lines"),
        ("[3]", "entry 1: expected .* got int"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "set.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_instructions([tmp_path / "set.json"])


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json"):
        read_instructions([tmp_path / "none.json"])
