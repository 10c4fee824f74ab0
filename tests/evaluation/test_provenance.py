"""What figures depend on."""

from pathlib import Path

from icebreaker.evaluation.provenance import StolenTime


def test_stolen_time_is_a_share_of_all_time(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 800 10 0 5 35 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    stolen = StolenTime(stat)
    assert stolen.percent is None  # no time has passed
    stat.write_text("cpu  150 0 60 820 10 0 5 55 7 0\n")
    assert stolen.percent == 20.0


def test_systems_that_do_not_say_have_no_figure(tmp_path: Path) -> None:
    assert StolenTime(tmp_path / "missing").percent is None
    (tmp_path / "stat").write_text("cpu 1 2 3\n")
    assert StolenTime(tmp_path / "stat").percent is None
