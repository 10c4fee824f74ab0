"""Peaks of the process; those of a GPU are torch's own count."""

import time
from pathlib import Path

import pytest
import torch

from icebreaker.training import memory
from icebreaker.training.loop import StepReport
from icebreaker.training.memory import MemoryWatch, peak_memory

CPU, MIB = torch.device("cpu"), 2**20


def test_a_peak_is_seen_though_it_is_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status = tmp_path / "status"  # the kernel's own counts lag, on some machines by more than a small test can hold

    def in_use(mib: int) -> None:
        aside = tmp_path / "aside"
        aside.write_text(f"Name:\tpython\nVmHWM:\t  999999 kB\nVmRSS:\t  {1024 * mib} kB\n")
        aside.replace(status)  # never read half-written

    monkeypatch.setattr(memory, "STATUS", status)
    in_use(100)
    watch = MemoryWatch(CPU)
    watch.start()
    in_use(164)
    deadline = time.monotonic() + 30
    while watch.peak < 164 * MIB and time.monotonic() < deadline:
        time.sleep(0.001)
    in_use(120)
    watch.stop()
    assert (watch.base, watch.peak, watch.rise) == (100 * MIB, 164 * MIB, 64 * MIB)
    assert peak_memory(CPU) == 999999 * 1024


def test_a_watch_that_never_began_sees_the_present() -> None:
    watch = MemoryWatch(CPU)
    watch.stop()
    assert watch.rise == watch.peak > 10 * MIB


def test_other_systems_do_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert peak_memory(CPU) == 0
    report = StepReport(1, 0.5, 1.0, 1e-3, {}, 10, seconds=2.0, batches=4)
    assert report.line() == "loss 0.500, 2.0 batches/s"
    assert StepReport(1, 0.5, 1.0, 1e-3, {}, 10, peak_memory=3 * 2**30).line() == "loss 0.500, 3.0 GiB"
