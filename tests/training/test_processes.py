"""What is dealt to whom. Several processes at once are in tests/dist."""

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from torch import nn

from icebreaker.errors import TrainingError
from icebreaker.training import processes, run
from icebreaker.training.loop import OptimConfig, Run


def numbers(first: int) -> Iterator[int]:
    begun.append(first)
    while True:
        yield first
        first += 1


begun: list[int] = []


def test_a_stream_is_dealt_round_and_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "world", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        shares.append(list(islice(processes.dealt(numbers, 6), 4)))
    assert shares == [[6, 9, 12, 15], [7, 10, 13, 16], [8, 11, 14, 17]]


def test_one_process_reads_on_and_a_stream_may_end(monkeypatch: pytest.MonkeyPatch) -> None:
    begun.clear()
    assert list(islice(processes.dealt(numbers, 2), 3)) == [2, 3, 4]
    assert begun == [2]
    monkeypatch.setattr(processes, "world", lambda: 2)
    monkeypatch.setattr(processes, "rank", lambda: 1)
    assert list(processes.dealt(lambda first: iter(range(first, 5)), 0)) == [1, 3]


def test_rows_are_divided_evenly_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(range(6))[processes.rows_of(6)] == [0, 1, 2, 3, 4, 5]
    monkeypatch.setattr(processes, "world", lambda: 2)
    monkeypatch.setattr(processes, "rank", lambda: 1)
    assert list(range(6))[processes.rows_of(6)] == [1, 3, 5]
    with pytest.raises(TrainingError, match=r"batches of 5 rows cannot be divided among 2 .* set rows to a multiple"):
        processes.rows_of(5)


def test_alone_means_and_rows_are_ones_own() -> None:
    with processes.processes(), processes.main_first():
        assert processes.is_main()
        assert processes.gathered("a") == ["a"]
        assert processes.mean({"loss": 2.0}) == {"loss": 2.0}
        rows = torch.arange(6.0).view(3, 2)
        assert torch.equal(processes.whole_rows(rows), rows)
        assert torch.equal(processes.mean_tensor(rows), rows)


def test_a_step_that_cannot_be_dealt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "world", lambda: 4)
    model = {"model": nn.Linear(2, 2)}
    with pytest.raises(TrainingError, match=r"a step of 6 batches cannot be dealt to 4 .* set optim.accumulate=8"):
        Run(model, OptimConfig(steps=1, lr=1.0, accumulate=6))
    assert Run(model, OptimConfig(steps=1, lr=1.0, accumulate=1), rows_dealt=True).ranks == 1


def test_processes_that_cannot_meet_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=r"the 2 processes could not join .*torchrun"), processes.processes():
        pass
