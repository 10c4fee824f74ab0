"""The most memory that training has needed: of a GPU, or of the process. Knows nothing of steps or models."""

import gc
import threading
from pathlib import Path

import torch

__all__ = ["MemoryWatch", "peak_memory"]

STATUS = Path("/proc/self/status")  # Linux; other systems tell it only through packages
NOW, PEAK = "VmRSS", "VmHWM"  # lines of it, in KiB
SAMPLE_S = 0.005


def peak_memory(device: torch.device) -> int:
    """Bytes in use at most since the process began: tensors on ``device`` if that is a GPU, else the whole process.

    0 for the process where it is not known (macOS, Windows).
    """
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _of_process(PEAK)


class MemoryWatch:
    """The most memory between ``start`` and ``stop``, which can be less than the process once had.

    On a GPU torch keeps count; the process is looked at every few milliseconds.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.base = self.peak = 0  # bytes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def rise(self) -> int:
        """Bytes above what was in use at the start."""
        return max(0, self.peak - self.base)

    def start(self) -> None:
        """Watch from here on."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.base = self.peak = self._now()
        if self.device.type == "cpu":
            self._thread.start()

    def stop(self) -> None:
        """Watch no longer; without a start, what is in use now is all that is seen."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self.peak = max(self.peak, self._now())

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _of_process(NOW)


def _of_process(name: str) -> int:
    """Bytes that the line ``name`` of the process's status says; 0 where there is none."""
    if not STATUS.exists():
        return 0
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return 1024 * int(lines.get(name, "0").split()[0])
