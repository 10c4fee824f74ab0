"""The benchmark that others run on their GPU runs here at a tiny size, and its rules of arithmetic hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.published import first_audio, machine, report

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.published", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, cwd=ROOT)


def test_every_table_on_the_cpu(tmp_path: Path) -> None:
    done = run(
        *("--size", "tiny", "--device", "cpu", "--batches", "1", "2", "--contexts", "64", "--rounds", "1"),
        *("--patience", "0.01", "--replies", "1"),
        *("--json", str(tmp_path / "run.json"), "--markdown", str(tmp_path / "run.md")),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run.json").read_text())
    assert found["left_out"] == []
    assert [row["reply"] for row in found["first_audio"]][-1] == "median"
    assert all(0 < row["ours_ms"] <= row["ours_steady_ms"] for row in found["first_audio"])
    assert all(
        row["ours_first_sound_ms"] == pytest.approx(75, abs=1) for row in found["first_audio"]
    )  # 16 codes less 13
    # The plain one is 20 codes up to a cut; the search for it begins 200 ms from the start.
    assert all(200 <= row["plain_first_sound_ms"] <= 500 for row in found["first_audio"][:-1])
    ticks = [row for row in found["parts"] if row["part"] == "LLM, one token"]
    assert [(row["batch"], row["context"]) for row in ticks] == [(1, 64), (2, 64)]
    assert ticks[0]["naive_ms"] > 0
    assert ticks[1]["naive_ms"] is None
    assert all(0 < row["share"] == pytest.approx(row["floor_ms"] / row["ms"]) for row in ticks)
    assert [row["minutes"] for row in found["ages"]][-1] == 30
    assert [row["served_context"] for row in found["ages"]] == [min(2048, row["context"]) for row in found["ages"]]
    text = (tmp_path / "run.md").read_text()
    assert text in done.stdout
    assert all(f"#### {title}" in text for title in ("First audio", "By part", "Throughput", "What a conversation"))


def test_without_a_gpu_it_says_what_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = run("--size", "tiny")
    assert done.returncode == 1
    assert "--size tiny --device cpu" in done.stderr


def test_playback_without_a_gap_waits_for_the_latest_packet() -> None:
    packets = [(0.2, 100), (0.25, 100), (1.0, 1000), (9.0, 1500)]  # at 1000 samples a second
    start = first_audio.judge(packets, 1000)
    assert start.first_ms == pytest.approx(200)
    assert start.first_sound_ms == pytest.approx(100)
    assert start.steady_ms == pytest.approx(1000 * (9.0 - 1.2))  # the last packet is needed 1.2 s into playback


def test_what_comes_after_two_seconds_is_not_looked_at() -> None:
    assert first_audio.judge([(0.5, 2000), (60.0, 10)], 1000).steady_ms == pytest.approx(500)


def test_the_floor_is_the_slower_of_memory_and_arithmetic() -> None:
    device = machine.Machine(torch.device("cpu"), torch.float32, bytes_per_s=100.0, flops=1000.0)
    assert device.floor_s(50.0, 100.0) == (0.5, "memory")
    assert device.floor_s(50.0, 900.0) == (0.9, "arithmetic")


def test_tables_and_plots() -> None:
    lines = report.table(("what", "ms"), [("a", 0.12345), ("b", 123.4)]).splitlines()
    assert lines == ["| what | ms |", "| --- | ---: |", "| a | 0.123 |", "| b | 123 |"]
    plotted = report.plot("x", [(0, 0.0), (30, 2.0)]).splitlines()
    assert plotted[2].startswith("      2 |")
    assert plotted[2].endswith("*")
    assert plotted[2 + report.PLOT_HEIGHT].startswith("      0 |*")
