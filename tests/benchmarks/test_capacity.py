"""The simulation obeys arithmetic that can be done by hand, and the floors those of a data sheet."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.published.capacity import bearable, fleet, memory_bears
from benchmarks.published.costs import DEVICES, PUBLISHED_7B, Device, between, floors, measured
from benchmarks.published.simulation import CODE_S, Costs, Habits, simulate

HABITS = Habits()


def constant(
    hear: float = 0.0, think: float = 0.0, begin: float = 0.0, code: float = 0.0, render: float = 0.0
) -> Costs:
    return Costs(*(lambda batch, s=s: s for s in (hear, think, begin, code, render)))


def test_the_first_sound_is_the_sum_of_what_leads_to_it() -> None:
    costs = constant(hear=0.001, think=0.010, begin=0.005, code=0.0005, render=0.003)
    outcome = simulate(1, costs, HABITS, seconds=60)
    # The decision falls into a tick that hears (1 ms) and thinks, which gives the first of five tokens; a
    # fifth of a second is 8 codes, and 13 are held back.
    first = 0.001 + 5 * 0.010 + 0.005 + 21 * (0.0005 + 0.003 / 8)
    assert outcome.first_ms[0] == pytest.approx(1e3 * first)
    assert outcome.p(0.95) == pytest.approx(1e3 * first)
    assert outcome.gaps == 0
    assert outcome.good


def test_a_first_piece_grows_with_the_callers() -> None:
    costs = constant(code=0.001)
    alone, among_ten = (min(simulate(n, costs, HABITS, seconds=60).first_ms) for n in (1, 10))
    assert alone == pytest.approx(21)  # 8 codes are a fifth of a second, and 13 are held back
    # Somebody rests now and then; for each of the others who does not there are two codes more, up to 0.6 s.
    assert 27 <= among_ten <= 37


def test_work_that_takes_next_to_no_time_bears_anybody() -> None:
    outcome = simulate(50, constant(think=1e-6, code=1e-7), HABITS, seconds=20)
    assert max(outcome.first_ms) < 0.1
    assert max(outcome.late_ms) < 1.5  # an idle clock goes on by a millisecond at least
    assert outcome.good


def test_speech_that_takes_longer_to_make_than_to_hear_has_gaps() -> None:
    slow = constant(code=1.5 * CODE_S)
    outcome = simulate(1, slow, HABITS, seconds=60)
    assert outcome.gaps > 0
    assert not outcome.good
    assert bearable(slow, HABITS, 30)[0] == 0


def test_a_device_that_only_hears_bears_as_many_as_fit_into_160_ms() -> None:
    each = 0.010
    costs = Costs(lambda batch: each * batch, *(lambda batch: 0.0 for _ in range(4)))
    number, outcome = bearable(costs, HABITS, seconds=40)
    # Sixteen chunks fit into 160 ms; a caller speaks 4 of 11 s, so somewhat more than forty may be there.
    assert 16 < number <= 50
    assert outcome is not None
    assert outcome.good
    assert not simulate(2 * number, costs, HABITS, 40).good


def test_the_same_seed_gives_the_same_hour() -> None:
    costs = constant(hear=0.002, think=0.004, code=0.0002)
    assert simulate(7, costs, HABITS, 20) == simulate(7, costs, HABITS, 20)
    assert simulate(7, costs, HABITS, 20) != simulate(7, costs, HABITS, 20, seed=1)


def test_floors_read_every_weight_once() -> None:
    device = Device(bandwidth=1e12, flops=1e15, memory=80e9)
    costs = floors(device, PUBLISHED_7B)
    kept = 1024 * 57_344  # bytes of keys and values
    assert costs.think(1) == pytest.approx((14.14e9 + kept) / 1e12)
    assert costs.think(16) == pytest.approx((14.14e9 + 16 * kept) / 1e12)
    forgetful = floors(device, replace(PUBLISHED_7B, positions=0))
    assert forgetful.think(2000) == pytest.approx(2000 * 14.14e9 / 1e15)  # two operations a weight, of two bytes
    assert floors(device, PUBLISHED_7B, 0.5).think(1) == pytest.approx(2 * costs.think(1))


def test_memory_bounds_the_conversations() -> None:
    assert memory_bears(DEVICES["H200"], PUBLISHED_7B) > memory_bears(DEVICES["H100 SXM"], PUBLISHED_7B) > 100


def test_measured_costs_lie_on_the_measured_points() -> None:
    names = (
        "features, 160 ms", "encoder, 160 ms", "adapter, 160 ms", "speech decoder, start of a segment of 6 tokens",
        "speech decoder, one code", "codec, 8 codes (0.2 s)",
    )  # fmt: skip
    rows = [{"part": name, "batch": b, "context": 0, "ms": 1.0 + b} for name in names for b in (1, 4)]
    rows += [{"part": "LLM, one token", "batch": b, "context": c, "ms": b + c} for b in (1, 4) for c in (512, 2048)]
    costs = measured({"parts": rows}, 600)
    assert costs.hear(4) == pytest.approx(3 * 0.005)
    assert costs.think(1) == pytest.approx(0.513)
    assert costs.think(2) == pytest.approx(0.514)
    assert costs.code(10) == pytest.approx(0.011)


def test_a_line_goes_on_but_never_falls_below_one_conversation() -> None:
    assert between([(1, 4.0), (2, 3.0)], 10) == 4.0
    assert between([(2, 4.0)], 6) == pytest.approx(12)


def test_fleets_have_a_spare_tenth() -> None:
    assert fleet(10, 100) == 1
    assert fleet(1000, 100) == 11


def test_the_command_simulates_a_measured_run(tmp_path: Path) -> None:
    names = ("features, 160 ms", "encoder, 160 ms", "adapter, 160 ms")
    names += ("speech decoder, start of a segment of 6 tokens", "speech decoder, one code", "codec, 8 codes (0.2 s)")
    rows = [{"part": name, "batch": 1, "context": 0, "ms": 0.2} for name in names]
    rows.append({"part": "LLM, one token", "batch": 1, "context": 512, "ms": 1.0})
    run = {"parts": rows, "date": "2026-01-01", "where": {"gpu": None, "machine": "a machine", "commit": "abc"}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    command = [sys.executable, "-m", "benchmarks.published.capacity", "--run", str(tmp_path / "run.json")]
    done = subprocess.run([*command, "--seconds", "15"], capture_output=True, text=True, check=True, timeout=120,
                          cwd=Path(__file__).parents[2])  # fmt: skip
    assert "Measured on a machine, 2026-01-01, commit abc." in done.stdout
    assert "devices for 1,000,000" in done.stdout
