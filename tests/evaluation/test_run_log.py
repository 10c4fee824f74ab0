from pathlib import Path

from icebreaker.evaluation.run_log import RunLog


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out" / "items.jsonl"
    RunLog(path, {"seed": 0}).add("a", {"text": "Ö"})
    with path.open("a") as file:
        file.write('{"run": "killed while wri')
    log = RunLog(path, {"seed": 0})
    assert "a" in log
    assert log["a"] == {"text": "Ö"}
    log.add("b", {"text": ""})
    assert set(RunLog(path, {"seed": 0}).results) == {"a", "b"}


def test_another_configuration_reuses_nothing_and_destroys_nothing(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    RunLog(path, {"seed": 0}).add("a", {"n": 1})
    other = RunLog(path, {"seed": 1})
    assert "a" not in other
    other.add("a", {"n": 2})
    assert RunLog(path, {"seed": 0})["a"] == {"n": 1}
    assert RunLog(path, {"seed": 1})["a"] == {"n": 2}
