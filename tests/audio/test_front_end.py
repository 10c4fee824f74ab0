from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES
from icebreaker.audio.front_end import FrontEndOutput, OfficialFrontEnd, Status
from icebreaker.audio.vad import WINDOW_SAMPLES, Silero

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny" / "expected" / "vad.npz"
WINDOWS = CHUNK_SAMPLES // WINDOW_SAMPLES


@pytest.fixture(scope="module")
def front_end() -> OfficialFrontEnd:
    return OfficialFrontEnd(Silero())


@pytest.fixture(scope="module")
def blocks() -> list[Tensor]:
    with np.load(GOLDEN) as stored:
        waveform = torch.from_numpy(stored["pcm"]).float() / 32768
    return list(waveform[None].split(CHUNK_SAMPLES, dim=1))


def drive(
    front_end: OfficialFrontEnd, blocks: list[Tensor], probabilities: np.ndarray, close_after: int | None
) -> list[FrontEndOutput]:
    state, outputs = front_end.initial_state(), []
    for index, block in enumerate(blocks):
        windows = probabilities[index * WINDOWS : (index + 1) * WINDOWS].tolist()
        output, state = front_end.decide(block, windows, state)
        outputs.append(output)
        if index == close_after:
            state = state._replace(in_dialog=False)
    return outputs


@pytest.mark.parametrize("scenario", [1, 2])
def test_official_statuses_and_recalled_features(
    front_end: OfficialFrontEnd, blocks: list[Tensor], scenario: int
) -> None:
    with np.load(GOLDEN) as expected:
        close_after = int(expected["force_close_after_chunk2"]) if scenario == 2 else None
        outputs = drive(front_end, blocks, expected[f"probs{scenario}"], close_after)
        assert [output.status.value for output in outputs] == expected[f"status{scenario}"].tolist()
        starts = [index for index, output in enumerate(outputs) if output.status is Status.START]
        assert starts == expected[f"sl_chunks{scenario}"].tolist()
        recalled = np.stack([torch.stack(outputs[index].recalled).numpy() for index in starts])
        np.testing.assert_allclose(recalled, expected[f"history{scenario}"], atol=2e-3, rtol=0)
        np.testing.assert_allclose(outputs[10].features.numpy(), expected["feature_at_chunk10"], atol=2e-3, rtol=0)
        assert all(output.recalled == () for output in outputs if output.status is not Status.START)


def test_the_memory_stands_still_during_a_dialogue(front_end: OfficialFrontEnd, blocks: list[Tensor]) -> None:
    state = front_end.initial_state()
    for block in blocks[:12]:
        _, state = front_end.decide(block, [0.0] * WINDOWS, state)
    assert len(state.history) == 10
    start, dialogue = front_end.decide(blocks[12], [0.9] * WINDOWS, state)
    assert len(start.recalled) == 6
    for block in blocks[13:20]:
        _, dialogue = front_end.decide(block, [0.9] * WINDOWS, dialogue)
    assert dialogue.history is state.history


def test_an_early_start_recalls_what_there_is(front_end: OfficialFrontEnd, blocks: list[Tensor]) -> None:
    output, _ = front_end.decide(blocks[0], [0.9] * WINDOWS, front_end.initial_state())
    assert output.status is Status.START
    assert output.recalled == ()


def test_the_end_resets_the_network_too(front_end: OfficialFrontEnd, blocks: list[Tensor]) -> None:
    state = front_end.initial_state()
    output, state = front_end.step(blocks[5], state)
    assert output.status is Status.IDLE
    assert state.silero.hidden.abs().sum() > 0
    _, state = front_end.decide(blocks[6], [0.9] * WINDOWS, state)
    while output.status is not Status.END:
        output, state = front_end.decide(blocks[7], [0.0] * WINDOWS, state)
    assert state.silero.hidden.abs().sum() == 0
    assert state.vad == front_end.vad.initial_state()
    assert not state.in_dialog


def test_part_of_a_block_is_refused(front_end: OfficialFrontEnd) -> None:
    with pytest.raises(ValueError, match=r"\[1, 2560\], got \[1, 2048\]"):
        front_end.step(torch.zeros(1, 2048), front_end.initial_state())
