import numpy as np
import pytest

from icebreaker.data.augment import (
    AugmentConfig,
    add_noise,
    augment,
    babble,
    band_limit,
    change_level,
    change_speed,
    pink_noise,
    reverberate,
    room_impulse,
    white_noise,
)

RATE = 16_000


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def tone(hz: float, samples: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(samples) / RATE)).astype(np.float32)


def power_between(waveform: np.ndarray, low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(waveform)) ** 2
    frequencies = np.fft.rfftfreq(len(waveform), 1 / RATE)
    return float(spectrum[(frequencies >= low_hz) & (frequencies < high_hz)].sum())


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5, 30.0])
@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
def test_the_signal_to_noise_ratio_is_the_one_asked_for(rng: np.random.Generator, kind: str, snr_db: float) -> None:
    speech = tone(440)
    noise = {
        "white": lambda: white_noise(rng, RATE),
        "pink": lambda: pink_noise(rng, RATE),
        "babble": lambda: babble(rng, [tone(200, 5000), tone(333, 40_000)], RATE),
    }[kind]()
    added = add_noise(speech, noise, snr_db) - speech
    measured = 10 * np.log10(np.mean(speech**2) / np.mean(added**2))
    assert measured == pytest.approx(snr_db, abs=0.01)


def test_noise_leaves_silence_silent_and_no_noise_changes_nothing(rng: np.random.Generator) -> None:
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(add_noise(silence, white_noise(rng, 100), 10.0), silence)
    np.testing.assert_array_equal(add_noise(tone(440, 100), silence, 10.0), tone(440, 100))


def test_noise_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(100,\), got \(99,\)"):
        add_noise(np.zeros(100, np.float32), np.zeros(99, np.float32), 10.0)


def test_pink_noise_falls_three_decibels_an_octave(rng: np.random.Generator) -> None:
    noise = pink_noise(rng, 1 << 18)
    assert np.mean(noise**2) == pytest.approx(1.0, rel=1e-4)
    octaves = [power_between(noise, hz, 2 * hz) for hz in (250, 500, 1000, 2000)]
    np.testing.assert_allclose(octaves, octaves[0], rtol=0.1)  # equal power in every octave


def test_a_room_keeps_the_direct_sound_in_place_and_the_energy(rng: np.random.Generator) -> None:
    impulse = room_impulse(rng, 0.3)
    assert len(impulse) == 4800
    assert np.sum(impulse**2) == pytest.approx(1.0, rel=1e-4)
    assert np.argmax(np.abs(impulse)) == 0
    early, late = np.sum(impulse[1:1600] ** 2), np.sum(impulse[3200:] ** 2)
    assert 10 * np.log10(early / late) == pytest.approx(40, abs=3)  # 60 dB over the whole, 20 dB a third
    click = np.zeros(8000, np.float32)
    click[1000] = 1.0
    heard = reverberate(click, impulse)
    assert len(heard) == 8000
    np.testing.assert_allclose(heard[1000:5800], impulse, atol=1e-6)


def test_a_band_keeps_what_is_inside() -> None:
    mixed = tone(100) + tone(1000) + tone(5000)
    np.testing.assert_allclose(band_limit(mixed, 300, 3400), tone(1000), atol=1e-5)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch(factor: float) -> None:
    faster = change_speed(tone(1000), factor)
    assert len(faster) == pytest.approx(RATE / factor, abs=2)
    spectrum = np.abs(np.fft.rfft(faster))
    assert np.argmax(spectrum) * RATE / len(faster) == pytest.approx(1000 * factor, abs=2)


def test_speed_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive factor, got 0"):
        change_speed(tone(440), 0)


def test_level_scales_and_clips() -> None:
    np.testing.assert_allclose(change_level(tone(440), -20.0), 0.1 * tone(440), rtol=1e-5)
    assert np.abs(change_level(tone(440), 40.0)).max() == 1.0


def test_augment_is_a_function_of_its_generator() -> None:
    config = AugmentConfig()
    talkers = [tone(200), tone(300)]
    outputs = [augment(tone(440), np.random.default_rng(s), config, talkers=talkers) for s in (*range(30), *range(30))]
    for first, second in zip(outputs[:30], outputs[30:], strict=True):
        np.testing.assert_array_equal(first, second)
    assert len({output.tobytes() for output in outputs}) == 30
    for output in outputs:
        assert output.dtype == np.float32
        assert np.isfinite(output).all()
        assert np.abs(output).max() <= 1.0
        assert RATE / 1.11 < len(output) < RATE / 0.89


def test_augment_with_every_share_zero_only_changes_the_level() -> None:
    config = AugmentConfig(noise_share=0, room_share=0, band_share=0, speed_share=0, level_db=(-6.0, -6.0))
    np.testing.assert_allclose(
        augment(tone(440), np.random.default_rng(0), config), tone(440) * 10 ** (-6 / 20), rtol=1e-5
    )


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="snr_db: expected a lower and an upper bound"):
        AugmentConfig(snr_db=(30.0, 5.0))
