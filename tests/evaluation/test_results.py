import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from icebreaker.cli import app
from icebreaker.errors import DataError
from icebreaker.evaluation.learning_curves import Curve, read_curves
from icebreaker.evaluation.report import Chart, Report, Table
from icebreaker.evaluation.results import read_reports, write_results
from icebreaker.evaluation.targets import promises


def keep(folder: Path, name: str, figures: dict[str, object], **facts: object) -> None:
    table = Table("A table", ("what", "value"), [["x", 1.25]])
    facts = {"model": "mini", "sha256": "ab" * 32, "commit": "c0ffee", "machine": "m", **facts}
    Report(name, figures, facts, [table], ["A note."], Chart("A chart", "%", {"x": 1.0})).write(folder)


def sqa(quiet: float, noisy: float, said: float) -> dict[str, object]:
    rates = {
        "writing | all | T→T": 96.0,
        "quiet | all | A→T": quiet,
        "10 dB | all | A→T": noisy,
        "quiet | all | A→S": said,
    }
    return {name: {"percent": rate, "count": 100} for name, rate in rates.items()}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    keep(folder / "sqa", "sqa", sqa(90.0, 60.0, 88.0), set="manifest", command="icebreaker eval sqa m.jsonl --out x")
    wer = {"4 (160 ms) | as recorded | all": {"wer": 7.5}, "full context | as recorded | all": {"wer": 6.0}}
    keep(folder / "asr", "asr", wer)
    keep(folder / "asr-fixed", "asr", {"4 (160 ms) | as recorded | all": {"wer": 9.5}}, label="without dynamic chunks")
    said = {
        "source voice": {"wer": 6.0, "cer": 3.0},
        "top-k 1": {"wer": 20.0, "cer": 9.0},
        "top-k 2": {"wer": 12.0, "cer": 5.0},
    }
    keep(folder / "speech", "speech", said)
    keep(folder / "speech-bare", "speech", {"top-k 1": {"wer": 30.0, "cer": 19.0}}, label="without prefix")
    (folder / "other.json").write_text('{"not": "a report"}')
    return folder


def test_the_page_has_promises_gaps_ablations_and_every_report(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    files = write_results(results, page)
    text = page.read_text()
    assert "| right answers in writing (T→T), % | at least 92 | 96.00 | kept |" in text
    assert "| by ear in quiet, over in writing (A→T / T→T) | at least 0.93 | 0.94 | kept |" in text
    assert "| by ear at 10 dB SNR, over in writing | at least 0.85 | 0.62 | **not kept** |" in text
    assert "| speech out above the source voice, points of WER | at most 4 | 6.00 | **not kept** |" in text
    assert "| turn TOR, % | at least 95 | – | not measured |" in text
    assert "| manifest, quiet | 96.00 | 90.00 | 0.94 | 88.00 | 2.00 |" in text
    assert "| mini | 7.50 | 6.00 |\n| without dynamic chunks | 9.50 | – |" in text
    assert "| mini | 3.00 | 9.00 | 5.00 |\n| without prefix | – | 19.00 | – |" in text
    assert "| with prefix and pre-network | 2.19 | 1.69 |" in text
    assert "```bash\nicebreaker eval sqa m.jsonl --out x\n```" in text
    assert text.index("## Spoken question answering") < text.index("## Recognition\n") < text.index("## Speech out\n")
    assert "![sqa ](results/sqa-sqa.png)" in text
    assert {file.name for file in files} >= {"results.md", "sqa-sqa.png", "asr-fixed-asr.png"}
    assert all(file.is_file() for file in files)
    assert text == (write_results(results, page) and page.read_text())
    shutil.rmtree(results)
    assert text == (write_results(page.with_suffix(""), page) and page.read_text()), "from what lies beside the page"


def test_a_servers_report_keeps_no_promise_of_ours(tmp_path: Path) -> None:
    keep(tmp_path / "r", "sqa", sqa(99.0, 99.0, 99.0), server="ws://peer", label="peer")
    write_results(tmp_path / "r", tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "| right answers in writing (T→T), % | at least 92 | – | not measured |" in text
    assert "| peer, quiet | 96.00 | 99.00 |" in text


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no reports in it"):
        read_reports(tmp_path)


def test_promises_at_their_bounds() -> None:
    duplex = {"turn": {"tor": {"percent": 95.0}}, "noise": {"answered": {"percent": 5.0}, "obeyed": {"percent": None}},
              "echo": {"answered": {"percent": 6.0}}}  # fmt: skip
    rows = {row[0]: row[3] for row in promises({"duplex": duplex, "load": {"underruns": 1}}).rows}
    assert rows["turn TOR, %"] == "kept"
    assert rows["noise, backchannels, echo answered, worst kind, %"] == "**not kept**"
    assert rows["noise, backchannels, echo obeyed, worst kind, %"] == "not measured"
    assert rows["under load: underruns"] == "**not kept**"


def test_learning_curves(results: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "stage"
    run.mkdir(parents=True)
    rows = [
        {"step": step, "loss": 10.0 - step, "seconds": seconds} for step, seconds in ((1, 10), (2, 20), (3, 5), (4, 15))
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 5, "lo')
    (curve,) = read_curves(tmp_path / "runs")
    assert curve.name == "stage"
    assert curve.last("loss") == 6.0
    assert curve.hours == pytest.approx((20 + 15) / 3600)  # it was resumed in between
    assert Curve("none", [{"loss": 1.0}]).last("accuracy") is None
    result = CliRunner().invoke(
        app, ["eval", "report", str(results), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "page.md")]
    )
    assert result.exit_code == 0, result.output
    text = (tmp_path / "page.md").read_text()
    assert "| stage | 4 | 9.000 | 6.000 | 0.010 |" in text
    assert (tmp_path / "page" / "learning-curves.png").read_bytes().startswith(b"\x89PNG")
    assert "![learning curves](page/learning-curves.png)" in text
