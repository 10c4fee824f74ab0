"""Peaks of the process; those of a GPU are torch's own count."""

from pathlib import Path

import numpy as np
import pytest
import torch

from icebreaker.training import memory
from icebreaker.training.loop import StepReport
from icebreaker.training.memory import MemoryWatch, peak_memory

CPU, MIB = torch.device("cpu"), 2**20


def test_a_peak_is_seen_though_it_is_over() -> None:
    watch = MemoryWatch(CPU)
    watch.start()
    held = np.ones(64 * MIB, np.uint8)
    assert held.sum() == 64 * MIB
    watch.stop()
    del held
    assert 56 * MIB < watch.rise < 200 * MIB
    assert watch.peak == watch.base + watch.rise
    assert peak_memory(CPU) >= watch.peak - MIB  # a process's own counts lag by some pages


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
