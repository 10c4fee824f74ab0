"""How long work takes on a device, and how fast the device is. Knows nothing of models.

On a CPU time is that of this thread: neighbours on a shared machine then cost little, and an idle core would take as
long. On a GPU it is real time up to the end of the work, launching included, which is what a caller waits for.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["Machine", "Timing", "probe"]


@dataclass(frozen=True)
class Timing:
    """Of some repetitions, in seconds."""

    least: float
    median: float


@dataclass(frozen=True)
class Machine:
    """A device and what it can do at most, as measured in this run.

    Attributes:
        device: where it all runs.
        dtype: of the models.
        bytes_per_s: fastest reading of memory far larger than the caches.
        flops: fastest large matrix product in ``dtype``.
        float32_flops: the same in float32, with TF32 where the device has it and torch is told to use it.
        rounds: repetitions of a measurement at most.
        patience_s: on one measurement; at least two repetitions are made.
    """

    device: torch.device
    dtype: torch.dtype
    bytes_per_s: float = 0.0
    flops: float = 0.0
    float32_flops: float = 0.0
    rounds: int = 20
    patience_s: float = 3.0

    @property
    def records(self) -> bool:
        """Whether steps can be recorded and launched as one."""
        return self.device.type == "cuda"

    def now(self) -> float:
        """Seconds; differences count."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.thread_time()

    def time(self, work: Callable[[], object]) -> Timing:
        """``work``, after one call to warm up."""
        work()
        taken, began = list[float](), time.perf_counter()
        while len(taken) < 2 or (len(taken) < self.rounds and time.perf_counter() - began < self.patience_s):
            start = self.now()
            work()
            taken.append(self.now() - start)
        return Timing(min(taken), statistics.median(taken))

    def floor_s(self, bytes_read: float, flops: float) -> tuple[float, str]:
        """The least time for so much memory and arithmetic, and which of the two it is; ``flops`` in ``dtype``."""
        memory, arithmetic = bytes_read / self.bytes_per_s, flops / self.flops
        return (memory, "memory") if memory >= arithmetic else (arithmetic, "arithmetic")


def probe(device: torch.device, dtype: torch.dtype, rounds: int, patience_s: float) -> Machine:
    """Measure the device."""
    machine = Machine(device, dtype, rounds=rounds, patience_s=patience_s)
    large = device.type == "cuda"
    vector = torch.ones((1 << 30) if large else (50 << 20), device=device, dtype=torch.float32)
    side = 8192 if large else 1024
    half, single = (torch.randn(side, side, device=device).to(kind) for kind in (dtype, torch.float32))
    weight, column = torch.randn(8192, 4096 if large else 8192, device=device), None
    column = torch.randn(weight.shape[1], device=device)
    reads = [
        vector.nbytes / machine.time(vector.sum).least,
        weight.nbytes / machine.time(lambda: weight @ column).least,
    ]
    return Machine(
        device, dtype, max(reads), 2 * side**3 / machine.time(lambda: half @ half).least,
        2 * side**3 / machine.time(lambda: single @ single).least, rounds, patience_s,
    )  # fmt: skip
