"""Steps of fixed shapes, recorded once and replayed as one launch (CUDA graphs). Knows nothing of the models in them.

A decoding step is some hundred kernels of a few microseconds each; launched one by one, a large GPU waits for Python.
Recorded, a step is one launch. What is recorded reads its inputs from buffers of its own and must not look at values
on the host. On a CPU there is nothing to gain and nothing is recorded.
"""

import logging
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Recorder", "Recording", "bucket", "record_cuda"]

logger = logging.getLogger(__name__)

Step = Callable[..., Tensor]
WARM_UP = 2  # runs before a recording: kernels are chosen and loaded then
TOLERANCE = 0.05  # of the largest output: bfloat16 kernels of other shapes add up in another order


class Recording(NamedTuple):
    """A step on buffers of its own."""

    inputs: tuple[Tensor, ...]
    output: Tensor
    replay: Callable[[], None]


def record_cuda(step: Step, inputs: tuple[Tensor, ...]) -> Recording:
    """Record ``step`` on ``inputs``, which become its buffers. Running it twice must do no harm."""
    own = torch.cuda.Stream()
    own.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(own):
        for _ in range(WARM_UP):
            step(*inputs)
    torch.cuda.current_stream().wait_stream(own)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = step(*inputs)
    return Recording(inputs, output, graph.replay)


class Recorder:
    """Recordings by key, each made when it is first asked for and compared with the step itself.

    A step that cannot be recorded, or whose recording gives something else, is run as it is from then on.
    """

    def __init__(self, record: Callable[[Step, tuple[Tensor, ...]], Recording] = record_cuda) -> None:
        self._record = record
        self._recordings: dict[Hashable, Recording] = {}
        self.failed = False

    def clear(self) -> None:
        """Forget all recordings: the memory they write to is gone."""
        self._recordings.clear()

    def __len__(self) -> int:
        return len(self._recordings)

    def __call__(self, key: Hashable, step: Step, *inputs: Tensor) -> Tensor:
        """``step(*inputs)``, by replaying what was recorded under ``key`` for inputs of the same shapes."""
        if self.failed:
            return step(*inputs)
        recording = self._recordings.get(key)
        if recording is None:
            return self._first(key, step, inputs)
        for buffer, value in zip(recording.inputs, inputs, strict=True):
            buffer.copy_(value, non_blocking=True)
        recording.replay()
        return recording.output.clone()

    def _first(self, key: Hashable, step: Step, inputs: tuple[Tensor, ...]) -> Tensor:
        expected = step(*inputs)
        try:
            recording = self._record(step, tuple(value.clone() for value in inputs))
            recording.replay()
            difference = float((recording.output - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
        except RuntimeError as error:  # an operation that waits for the host, or no memory for the graph
            logger.warning("a step cannot be recorded and is launched piece by piece from now on: %s", error)
            self.failed = True
            return expected
        if not difference <= TOLERANCE:
            logger.warning("a recorded step differs by %.3f from the step itself and is not used", difference)
            self.failed = True
            return expected
        self._recordings[key] = recording
        logger.info("recorded step %s", key)
        return expected


def bucket(needed: int, least: int, most: int) -> int:
    """The smallest ``least`` times a power of two that covers ``needed``, at most ``most``: few shapes to record."""
    size = least
    while size < needed:
        size *= 2
    return min(size, most)
