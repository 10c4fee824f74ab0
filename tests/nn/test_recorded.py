"""Recording and replaying: buffers, keys, and what happens when a step cannot be recorded.

Graphs need a GPU. Here a stand-in records: it replays by running the step on the recording's own buffers, so whatever
does not go through the buffers comes out wrong. The last test is for a machine with a GPU.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from icebreaker.nn.recorded import Recorder, Recording, bucket

gpu = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="records a CUDA graph: needs a GPU and a torch build for it (pip install torch)",
)


def stand_in(step: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Recording:
    output = torch.empty_like(step(*inputs))

    def replay() -> None:
        output.copy_(step(*inputs))

    return Recording(inputs, output, replay)


def test_a_replay_reads_the_new_inputs() -> None:
    recorder = Recorder(stand_in)
    double = lambda x: 2 * x  # noqa: E731
    first, second = (recorder("double", double, torch.tensor([value])) for value in (1.0, 5.0))
    assert (first.tolist(), second.tolist(), len(recorder)) == ([2.0], [10.0], 1)


def test_an_output_outlives_the_next_replay() -> None:
    recorder = Recorder(stand_in)
    results = [recorder("x", lambda x: x + 1, torch.tensor([float(i)])) for i in range(4)]
    assert [float(result) for result in results] == [1.0, 2.0, 3.0, 4.0]


def test_each_key_has_its_own_recording() -> None:
    recorder = Recorder(stand_in)
    for _ in range(2):
        assert float(recorder(1, lambda x: x + 1, torch.zeros(1))) == 1
        assert float(recorder(2, lambda x: x + 2, torch.zeros(1))) == 2
    assert len(recorder) == 2
    recorder.clear()
    assert len(recorder) == 0


def test_a_step_that_cannot_be_recorded_is_run(caplog: pytest.LogCaptureFixture) -> None:
    def refuses(step: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Recording:
        raise RuntimeError("operation not permitted when stream is capturing")

    recorder = Recorder(refuses)
    assert [float(recorder("x", lambda x: x + 1, torch.tensor([v]))) for v in (1.0, 2.0)] == [2.0, 3.0]
    assert recorder.failed
    assert caplog.text.count("cannot be recorded") == 1


def test_a_recording_that_differs_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def wrong(step: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Recording:
        return Recording(inputs, torch.full_like(inputs[0], 7.0), lambda: None)

    recorder = Recorder(wrong)
    assert [float(recorder("x", lambda x: x + 1, torch.tensor([v]))) for v in (1.0, 2.0)] == [2.0, 3.0]
    assert "differs" in caplog.text


def test_a_recording_of_nonsense_is_not_used() -> None:
    def nan(step: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Recording:
        return Recording(inputs, torch.full_like(inputs[0], torch.nan), lambda: None)

    recorder = Recorder(nan)
    assert float(recorder("x", lambda x: x + 1, torch.ones(1))) == 2
    assert recorder.failed


@pytest.mark.parametrize(
    ("needed", "size"), [(1, 512), (512, 512), (513, 1024), (1500, 2048), (2900, 3000), (3000, 3000)]
)
def test_buckets(needed: int, size: int) -> None:
    assert bucket(needed, 512, 3000) == size


@gpu
def test_on_a_gpu_a_graph_equals_the_step() -> None:
    weight = torch.randn(64, 64, device="cuda")
    recorder = Recorder()
    for _ in range(3):
        x = torch.randn(4, 64, device="cuda")
        torch.testing.assert_close(recorder("x", lambda x: torch.relu(x @ weight), x), torch.relu(x @ weight))
    assert len(recorder) == 1
    assert not recorder.failed
