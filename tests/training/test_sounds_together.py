import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from icebreaker.audio.fbank import SAMPLE_RATE, fbank
from icebreaker.data.augment import pink_noise
from icebreaker.training.sounds_together import noise_grain, together

Log = NDArray[np.float32]


def log_mel(waveform: NDArray[np.floating]) -> Log:
    return fbank(torch.from_numpy(waveform.astype(np.float32))[None])[0].numpy()


@pytest.fixture(scope="module")
def hum_and_noise() -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Ten seconds each: a voice-like buzz that glides, and pink noise, about as loud in many bins."""
    rng, times = np.random.default_rng(0), np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 0.7 * times)) / SAMPLE_RATE
    buzz = sum(np.sin(k * phase) / k for k in range(1, 40))
    return 0.05 * np.asarray(buzz), 0.05 * pink_noise(rng, len(times))


def test_noise_has_the_grain_of_noise() -> None:
    """As unsteady in every bin as what a waveform gives, from 1.1 at the bottom to 0.5 at the top, and of mean one."""
    rng = np.random.default_rng(1)
    drawn, real = noise_grain((4000, 80), rng), log_mel(0.05 * pink_noise(rng, 40 * SAMPLE_RATE))
    np.testing.assert_allclose(drawn.std(axis=0)[1:], real.std(axis=0)[1:], rtol=0.12)
    assert drawn.std(axis=0)[2] > 1.8 * drawn.std(axis=0)[-1]
    np.testing.assert_allclose(np.exp(drawn).mean(axis=0), 1, atol=0.1)
    after = [np.corrcoef(each[:-1, 40], each[1:, 40])[0, 1] for each in (drawn, real)]
    assert after[0] == pytest.approx(after[1], abs=0.06)  # neighbouring windows share 15 of their 25 ms


def test_two_sounds_are_together_what_their_waveforms_are(
    hum_and_noise: tuple[NDArray[np.floating], NDArray[np.floating]],
) -> None:
    """Where both are as loud, the sum varies as in the mixed waveforms; energies alone would hardly vary."""
    voice, noise = hum_and_noise
    apart = [log_mel(each) for each in hum_and_noise]
    real, added = log_mel(voice + noise), np.logaddexp(*apart)
    drawn = together(*apart, np.random.default_rng(2))
    alike = np.abs(apart[0] - apart[1]) < 0.7
    assert alike.mean() > 0.05, "there are such bins"
    wrong = [float((each - added)[alike].std()) for each in (real, drawn)]
    assert wrong[0] > 0.4
    assert wrong[1] == pytest.approx(wrong[0], rel=0.2)
    lifts = [float((each - added)[alike].mean()) for each in (real, drawn)]
    assert lifts[1] == pytest.approx(lifts[0], abs=0.1)


def test_the_louder_sound_is_left_alone_and_nothing_is_louder_than_both_in_phase() -> None:
    rng = np.random.default_rng(3)
    loud, faint = rng.normal(8, 2, (300, 80)).astype(np.float32), np.full((300, 80), -15.9424, np.float32)
    np.testing.assert_allclose(together(loud, faint, rng), loud, atol=0.1)
    as_loud = together(loud, loud, rng)
    assert as_loud.max(initial=-np.inf, where=np.isfinite(as_loud)) == as_loud.max()
    assert (as_loud <= loud + np.log(4) + 1e-4).all()
    assert (as_loud < loud).mean() > 0.05, "they cancel here and there"


def test_the_same_draws_give_the_same_sound() -> None:
    one = np.zeros((50, 80), np.float32)
    drawn = [together(one, one, np.random.default_rng(seed)) for seed in (4, 4, 5)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
