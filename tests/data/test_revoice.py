from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from icebreaker.data.revoice import HIGHEST_HZ, LOWEST_HZ, Manner, draw_manner, revoice

RATE = 16_000
AS_IT_IS = Manner(pitch_hz=120.0, liveliness=1.0, tract=(1.0, 1.0), breath=1.0, pace=1.0, unevenness=0.0, seed=0)


def vowel(pitch_hz: float = 120.0, formant_hz: float = 1000.0, seconds: float = 1.0) -> NDArray[np.float32]:
    """A pitch that glides by a tenth either way, its fundamental as loud as the one formant."""
    times = np.arange(round(seconds * RATE)) / RATE
    pitch = pitch_hz * (1 + 0.1 * np.sin(2 * np.pi * times))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    loudness = [np.exp(-(((n * pitch_hz - formant_hz) / 300) ** 2)) + (n == 1) for n in range(1, 61)]
    tones = [loud * np.sin(n * phase) for n, loud in enumerate(loudness, start=1)]
    made = np.sum(tones, axis=0) + 1e-3 * np.random.default_rng(0).standard_normal(len(times))
    return np.asarray(0.3 * made / np.abs(made).max(), dtype=np.float32)


def pitch_of(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """By autocorrelation, every 40 ms of the middle."""
    found = []
    for start in range(len(waveform) // 5, 4 * len(waveform) // 5, 640):
        frame = waveform[start : start + 640].astype(np.float64)
        likeness = np.correlate(frame, frame, "full")[len(frame) - 1 :]
        lags = np.arange(RATE // 400, RATE // 70)
        found.append(RATE / lags[np.argmax(likeness[lags])])
    return np.array(found)


def loudest_hz(waveform: NDArray[np.float32]) -> float:
    """The centre of the power above 300 Hz, where the fundamental is not."""
    at = np.fft.rfftfreq(len(waveform), 1 / RATE)
    power = np.abs(np.fft.rfft(waveform)) ** 2 * (at > 300)
    return float((power * at).sum() / power.sum())


@pytest.mark.parametrize("pitch_hz", [85.0, 200.0, 260.0])
def test_the_pitch_is_the_manners_and_the_formant_stays(pitch_hz: float) -> None:
    said = revoice(vowel(), RATE, replace(AS_IT_IS, pitch_hz=pitch_hz, liveliness=0.0))
    assert np.median(pitch_of(said)) == pytest.approx(pitch_hz, rel=0.05)
    assert loudest_hz(said) == pytest.approx(1000, rel=0.1)


def test_a_shorter_tract_moves_the_formant_up_and_the_pitch_stays() -> None:
    said = revoice(vowel(), RATE, replace(AS_IT_IS, tract=(0.8, 0.8)))
    assert loudest_hz(said) == pytest.approx(1250, rel=0.07)
    assert np.median(pitch_of(said)) == pytest.approx(120, rel=0.05)


def test_formants_move_against_each_other() -> None:
    low, high = (revoice(vowel(formant_hz=hz), RATE, replace(AS_IT_IS, tract=(1.2, 0.8))) for hz in (900.0, 5500.0))
    assert loudest_hz(low) < 850
    assert loudest_hz(high) > 5700


def test_a_monotone_is_one() -> None:
    lively, flat = (revoice(vowel(), RATE, replace(AS_IT_IS, liveliness=range_)) for range_ in (1.0, 0.0))
    assert np.std(pitch_of(lively)) > 5
    assert np.std(pitch_of(flat)) < 2


def test_pace_is_length_and_unevenness_alone_moves_what_lies_between() -> None:
    assert len(revoice(vowel(), RATE, replace(AS_IT_IS, pace=1.3))) == pytest.approx(1.3 * RATE, rel=0.02)
    halves = np.concatenate([vowel(formant_hz=500), vowel(formant_hz=2500)])
    even, uneven = (revoice(halves, RATE, replace(AS_IT_IS, unevenness=u, seed=3)) for u in (0.0, 0.3))
    assert len(even) != len(uneven)
    assert np.array_equal(uneven, revoice(halves, RATE, replace(AS_IT_IS, unevenness=0.3, seed=3)))


def test_it_is_no_louder_and_silence_stays_silent() -> None:
    rng = np.random.default_rng(7)
    for _ in range(4):
        said = revoice(vowel(), RATE, draw_manner(rng))
        assert 0.05 < np.abs(said).max() <= 0.3 + 1e-6
        assert said.dtype == np.float32
    assert np.abs(revoice(np.zeros(8000, np.float32), RATE, draw_manner(rng))).max() < 1e-3


def test_drawn_manners_differ_and_stay_within_what_is_said() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_manner(rng) for _ in range(200)]
    pitches = [manner.pitch_hz for manner in drawn]
    assert min(pitches) >= LOWEST_HZ
    assert max(pitches) <= HIGHEST_HZ
    assert max(pitches) > 2.5 * min(pitches)
    assert draw_manner(np.random.default_rng(1)) == drawn[0] != drawn[1]
