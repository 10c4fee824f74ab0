import json
from pathlib import Path

from icebreaker.evaluation.report import Chart, Report, Table


def test_a_report_is_json_a_table_and_a_picture(tmp_path: Path) -> None:
    table = Table("Words", ("voice", "WER %", "n"), [["kal", 12.345, 3], ["slt", float("nan"), None]], digits=1)
    report = Report(
        "asr", {"kal": {"wer": 12.345}, "slt": {"wer": float("nan")}}, {"seed": 7, "sha256": "ab"}, [table],
        ["A note."], Chart("Words", "%", {"kal": 12.3}, {"theirs": 4.0}),
    )  # fmt: skip
    files = report.write(tmp_path / "out")
    assert [file.name for file in files] == ["asr.json", "asr.md", "asr.png"]
    values = json.loads(files[0].read_text())
    assert values["figures"] == {"kal": {"wer": 12.345}, "slt": {"wer": None}}
    assert values["measured_with"] == {"seed": 7, "sha256": "ab"}
    page = files[1].read_text()
    assert "| voice | WER % | n |\n| --- | ---: | ---: |\n| kal | 12.3 | 3 |\n| slt | – | – |" in page
    assert "- seed: 7" in page
    assert files[2].read_bytes().startswith(b"\x89PNG")
