import threading
import time

import pytest

from icebreaker.data.in_order import in_order


def test_results_come_in_order_whoever_is_first() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0.0)
        return number * number

    assert list(in_order(work, range(10), 4)) == [n * n for n in range(10)]
    assert list(in_order(work, [], 4)) == []


def test_work_runs_together_but_not_far_ahead() -> None:
    begun: list[int] = []
    together = threading.Barrier(3, timeout=5)

    def work(number: int) -> int:
        begun.append(number)
        if number < 3:
            together.wait()  # passes only if three run at once
        return number

    results = in_order(work, range(100), 3)
    assert [next(results), next(results)] == [0, 1]
    time.sleep(0.05)
    assert len(begun) <= 5
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 5


def test_a_failure_comes_in_its_turn() -> None:
    def work(number: int) -> float:
        return 1 / (2 - number)

    results = in_order(work, range(5), 5)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)
