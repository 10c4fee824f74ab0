import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from icebreaker.audio.pcm import load_audio
from icebreaker.audio.vad import WINDOW_SAMPLES, Boundary, Silero, VadConfig, VadEvent, VadIterator, installed_model
from icebreaker.errors import CheckpointError
from icebreaker.streaming import select


@pytest.fixture(scope="module")
def silero() -> Silero:
    return Silero()


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """[1, S] a second of faint noise, speech, three seconds of faint noise; whole windows."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    words = "The quick brown fox jumps over the lazy dog near the river bank."
    subprocess.run(["espeak-ng", "-w", path, words], check=True)
    waveform = torch.from_numpy(load_audio(path, 16000))
    waveform = torch.nn.functional.pad(waveform, (16384, 48000))
    waveform = torch.nn.functional.pad(waveform, (0, -len(waveform) % WINDOW_SAMPLES))
    return (waveform + 1e-4 * torch.randn(len(waveform), generator=torch.Generator().manual_seed(0)))[None]


def run(probabilities: list[float], config: VadConfig | None = None) -> list[tuple[int, VadEvent]]:
    iterator = VadIterator(config)
    state, events = iterator.initial_state(), []
    for window, probability in enumerate(probabilities):
        event, state = iterator.step(probability, state)
        if event is not None:
            events.append((window, event))
    return events


def test_speech_and_silence_are_told_apart(silero: Silero, speech: Tensor) -> None:
    probabilities, _ = silero(speech, silero.initial_state(1))
    before, during = probabilities[0, :28], probabilities[0, 40:100]
    after = probabilities[0, -60:]
    assert before.max() < 0.3
    assert after.max() < 0.3
    assert during.median() > 0.9


def test_a_dialogue_of_one_utterance(silero: Silero, speech: Tensor) -> None:
    probabilities, _ = silero(speech, silero.initial_state(1))
    events = [event for _, event in run(probabilities[0].tolist())]
    assert [event.boundary for event in events] == [Boundary.START, Boundary.END]
    start, end = (event.position for event in events)
    assert start == pytest.approx(16384, abs=4000)
    assert end == pytest.approx(speech.shape[1] - 48000, abs=8000)


def test_silence_noise_and_clipping_do_not_break_it(silero: Silero) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.stack([torch.zeros(16384), torch.ones(16384), 1e-3 * torch.randn(16384, generator=generator)])
    probabilities, _ = silero(rows, silero.initial_state(3))
    assert probabilities.shape == (3, 32)
    assert probabilities.max() < 0.5


def test_any_split_and_any_batch_give_the_same(silero: Silero, speech: Tensor) -> None:
    whole, end_state = silero(speech, silero.initial_state(1))
    rows = torch.cat([speech, speech.flip(1)])
    state, outputs = silero.initial_state(2), []
    for piece in rows.split(5 * WINDOW_SAMPLES, dim=1):
        probabilities, state = silero(piece, state)
        outputs.append(probabilities)
    torch.testing.assert_close(torch.cat(outputs, dim=1)[:1], whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(state.hidden[:1], end_state.hidden, atol=1e-5, rtol=0)
    torch.testing.assert_close(state.context[:1], speech[:, -64:])


def test_idle_rows_keep_their_state(silero: Silero, speech: Tensor) -> None:
    _, old = silero(speech[:, :16384].repeat(2, 1), silero.initial_state(2))
    _, new = silero(speech[:, 16384:32768].repeat(2, 1), old)
    mixed = select(torch.tensor([True, False]), new, old)
    assert torch.equal(mixed.hidden[0], new.hidden[0])
    assert torch.equal(mixed.hidden[1], old.hidden[1])
    assert not torch.equal(new.hidden[1], old.hidden[1])


def test_drifting_rows_equal_each_row_alone(silero: Silero, speech: Tensor) -> None:
    chunk = 5 * WINDOW_SAMPLES
    rows = [speech[0, : 6 * chunk], speech[0].flip(0)[: 6 * chunk]]
    alone = [silero(row[None], silero.initial_state(1))[0][0] for row in rows]
    state, heard = silero.initial_state(2), [0, 0]
    for step in [[True, False], [True, True], [False, True], [True, True], [True, False]]:
        pieces = torch.stack([row[chunk * n : chunk * (n + 1)] for row, n in zip(rows, heard, strict=True)])
        probabilities, new = silero(pieces, state)
        state = select(torch.tensor(step), new, state)
        for row in (row for row in range(2) if step[row]):
            now = alone[row][5 * heard[row] : 5 * heard[row] + 5]  # nor does what comes later change it
            torch.testing.assert_close(probabilities[row], now, atol=1e-5, rtol=0)
            heard[row] += 1
    assert heard == [4, 3]


def test_no_samples_are_no_windows(silero: Silero) -> None:
    state = silero.initial_state(2)
    probabilities, after = silero(torch.zeros(2, 0), state)
    assert probabilities.shape == (2, 0)
    assert torch.equal(after.hidden, state.hidden)


def test_half_a_window_is_refused(silero: Silero) -> None:
    with pytest.raises(ValueError, match="multiple of 512"):
        silero(torch.zeros(1, 500), silero.initial_state(1))


def test_a_wrong_model_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(CheckpointError, match=r"model\.onnx"):
        Silero(path)
    path.write_bytes(b"not a network")
    with pytest.raises(CheckpointError, match=r"model\.onnx: expected a Silero VAD ONNX file"):
        Silero(path)


def test_the_package_silero_vad_is_never_imported() -> None:
    code = (
        "import sys, torch; torch.set_num_threads(2); from icebreaker.audio.vad import Silero; Silero();"
        "assert 'silero_vad' not in sys.modules; assert torch.get_num_threads() == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert installed_model().name == "silero_vad.onnx"


def test_start_comes_at_once_and_end_after_two_seconds() -> None:
    silence_windows = int(np.ceil(32000 / WINDOW_SAMPLES)) + 1  # the first one marks the position
    events = run([0.1] * 10 + [0.9] * 5 + [0.1] * 200)
    assert [(window, event.boundary) for window, event in events] == [
        (10, Boundary.START),
        (15 + silence_windows - 1, Boundary.END),
    ]
    pad = 480  # 30 ms
    assert events[0][1].position == 10 * WINDOW_SAMPLES - pad
    assert events[1][1].position == 15 * WINDOW_SAMPLES + pad


@pytest.mark.parametrize("between", [0.65, 0.7, 0.79])
def test_between_the_thresholds_nothing_changes(between: float) -> None:
    assert run([between] * 300) == []  # no start
    assert len(run([0.8] + [between] * 300)) == 1  # no end
    # A pause goes on through the middle zone, but needs a silent window to end in.
    events = run([0.8, 0.1] + [between] * 100 + [0.1])
    assert [window for window, _ in events] == [0, 102]


def test_a_loud_window_cancels_a_pause() -> None:
    pause = [0.0] * 62  # one window short of an end
    assert [event.boundary for _, event in run([0.9, *pause, 0.8, *pause])] == [Boundary.START]
    assert len(run([0.9, *pause, 0.0, 0.0])) == 2


def test_thresholds_are_checked() -> None:
    with pytest.raises(ValueError, match="end_threshold"):
        VadConfig(threshold=0.5, end_threshold=0.6)
    with pytest.raises(ValueError, match="0 ms"):
        VadConfig(min_silence_ms=-1)
