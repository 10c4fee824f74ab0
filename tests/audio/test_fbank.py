from pathlib import Path

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from torch import Tensor

from icebreaker.audio.fbank import (
    CHUNK_SAMPLES,
    HISTORY_SAMPLES,
    HOP_LENGTH,
    MEL_BINS,
    WINDOW_LENGTH,
    Fbank,
    fbank,
    mel_matrix,
    povey_window,
)
from icebreaker.streaming import select

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"
SILENCE = -15.942385  # log of float32 epsilon


@pytest.fixture(scope="module")
def utterance() -> Tensor:
    """[1, S] the golden recording, padded to whole chunks."""
    with np.load(GOLDEN / "inputs" / "wav16k.npz") as stored:
        waveform = torch.from_numpy(stored["pcm"]).float() / 32768
    return torch.nn.functional.pad(waveform, (0, -len(waveform) % CHUNK_SAMPLES))[None]


def noise(batch: int, samples: int) -> Tensor:
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)) * 0.1


def test_offline_matches_official_vectors(utterance: Tensor) -> None:
    with np.load(GOLDEN / "expected" / "fbank.npz") as expected:
        np.testing.assert_allclose(fbank(utterance)[0].numpy(), expected["offline"], atol=2e-3, rtol=0)


def test_streaming_matches_official_chunks(utterance: Tensor) -> None:
    with np.load(GOLDEN / "expected" / "fbank.npz") as expected:
        chunks = torch.from_numpy(expected["chunks"])  # [21, 3 + 16, MEL_BINS]
    module = Fbank()
    state, context = module.initial_state(1), torch.zeros(1, 3, MEL_BINS)
    for index, piece in enumerate(utterance.split(CHUNK_SAMPLES, dim=1)):
        frames, state = module(piece, state)
        block = torch.cat([context, frames], dim=1)
        torch.testing.assert_close(block[0], chunks[index], atol=2e-3, rtol=0)
        context = block[:, -3:]


def test_every_stage_of_one_frame() -> None:
    with np.load(GOLDEN / "expected" / "fbank_stages.npz") as stages:
        raw = torch.from_numpy(stages["raw"])
        without_mean = raw - raw.mean()
        np.testing.assert_allclose(without_mean.numpy(), stages["dc"], atol=1e-2)
        emphasised = without_mean - 0.97 * torch.cat([without_mean[:1], without_mean[:-1]])
        np.testing.assert_allclose(emphasised.numpy(), stages["preemph"], atol=1e-2)
        spectrum = torch.fft.rfft(emphasised * povey_window(), n=512).abs().square()
        np.testing.assert_allclose(spectrum.numpy(), stages["power"], rtol=1e-4, atol=1.0)  # up to 1e10
        np.testing.assert_allclose(fbank(raw[None] / 32768)[0, 0].numpy(), stages["logmel"], atol=2e-3)
        np.testing.assert_allclose((emphasised * povey_window()).numpy(), stages["windowed"], atol=1e-2)
        np.testing.assert_allclose(mel_matrix().T.numpy(), stages["mel_matrix"], atol=2e-5)
        np.testing.assert_allclose(fbank(raw[None] / 32768)[0, 0].numpy(), stages["reference"], atol=1e-4)


@pytest.mark.parametrize("gain", [1e-4, 0.1, 1.0])
def test_matches_kaldi_native_fbank(utterance: Tensor, gain: float) -> None:
    waveform = utterance * gain + 1e-5 * noise(1, utterance.shape[1])
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = MEL_BINS
    kaldi = kaldi_native_fbank.OnlineFbank(options)
    kaldi.accept_waveform(16000, (waveform[0] * 32768).tolist())
    kaldi.input_finished()
    expected = np.stack([kaldi.get_frame(index) for index in range(kaldi.num_frames_ready)])
    difference = np.abs(fbank(waveform)[0].numpy() - expected)
    assert difference.max() < 2e-3
    assert difference.mean() < 2e-5


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 559, 560, 16000])
def test_only_whole_windows_count(samples: int) -> None:
    frames = 0 if samples < WINDOW_LENGTH else 1 + (samples - WINDOW_LENGTH) // HOP_LENGTH
    assert fbank(torch.zeros(2, samples)).shape == (2, frames, MEL_BINS)


@pytest.mark.parametrize("level", [0.0, 0.5, -1.0])
def test_silence_and_constants_give_the_floor(level: float) -> None:
    torch.testing.assert_close(fbank(torch.full((1, 1600), level)), torch.full((1, 8, MEL_BINS), SILENCE))


def test_a_tone_peaks_in_its_bin_and_gain_shifts_the_log() -> None:
    time = torch.arange(16000) / 16000
    features = fbank(torch.stack([0.1 * torch.sin(2 * torch.pi * 1000 * time), torch.sin(2 * torch.pi * 1000 * time)]))
    mel = 1127 * np.log(1 + np.array([20, 1000, 8000]) / 700)
    bin_of_tone = round((mel[1] - mel[0]) / (mel[2] - mel[0]) * 81) - 1
    assert features[0].mean(dim=0).argmax() == bin_of_tone
    peak = features[:, :, bin_of_tone].mean(dim=1)
    assert float(peak[1] - peak[0]) == pytest.approx(2 * np.log(10), abs=1e-3)


@pytest.mark.parametrize("hops", [[1] * 20, [16, 4], [3, 7, 10], [0, 20, 0]])
def test_streaming_equals_offline(hops: list[int]) -> None:
    waveform, module = noise(3, 20 * HOP_LENGTH), Fbank()
    offline = fbank(torch.cat([torch.zeros(3, HISTORY_SAMPLES), waveform], dim=1))
    state, outputs = module.initial_state(3), []
    for piece in waveform.split([hop * HOP_LENGTH for hop in hops], dim=1):
        frames, state = module(piece, state)
        outputs.append(frames)
    torch.testing.assert_close(torch.cat(outputs, dim=1), offline, atol=1e-4, rtol=0)
    torch.testing.assert_close(state.history, waveform[:, -HISTORY_SAMPLES:])


def test_the_future_does_not_matter() -> None:
    waveform, module = noise(1, 2 * CHUNK_SAMPLES).requires_grad_(), Fbank()
    frames, _ = module(waveform, module.initial_state(1))
    (gradient,) = torch.autograd.grad(frames[:, :16].sum(), waveform)
    assert gradient[:, :CHUNK_SAMPLES].abs().sum() > 0
    assert gradient[:, CHUNK_SAMPLES:].abs().max() == 0


def test_idle_rows_keep_their_state_and_drifting_rows_equal_each_alone() -> None:
    module, waveform = Fbank(), noise(2, 6 * CHUNK_SAMPLES)
    pieces = waveform.split(CHUNK_SAMPLES, dim=1)
    schedule = [(True, True), (True, False), (False, True), (True, False), (True, True)]
    state, position, outputs = module.initial_state(2), [0, 0], [[], []]
    for active in schedule:
        batch = torch.stack([pieces[position[row]][row] for row in range(2)])
        frames, new = module(batch, state)
        state = select(torch.tensor(active), new, state)
        for row in range(2):
            if active[row]:
                outputs[row].append(frames[row])
                position[row] += 1
    for row in range(2):
        alone, alone_state = module(waveform[row : row + 1, : position[row] * CHUNK_SAMPLES], module.initial_state(1))
        torch.testing.assert_close(torch.cat(outputs[row]), alone[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(state.history[row], alone_state.history[0])


def test_the_state_does_not_hold_on_to_the_recording() -> None:
    module = Fbank()
    _, state = module(noise(1, 100 * CHUNK_SAMPLES), module.initial_state(1))
    assert state.history.untyped_storage().nbytes() == HISTORY_SAMPLES * 4


def test_bad_shapes_and_casts_are_refused() -> None:
    module = Fbank()
    with pytest.raises(ValueError, match="multiple of 160 samples, got 100"):
        module(torch.zeros(1, 100), module.initial_state(1))
    with pytest.raises(ValueError, match=r"expected a waveform \[2, S\]"):
        module(torch.zeros(1, 160), module.initial_state(2))
    with pytest.raises(ValueError, match="float32 tables"):
        Fbank().half().offline(torch.zeros(1, 400))


def test_nothing_is_saved_with_the_weights() -> None:
    assert Fbank().state_dict() == {}
