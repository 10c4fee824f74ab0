"""When speech begins and stops, how patient the assistant is, and the buffer behind it."""

from dataclasses import replace

import numpy as np

from icebreaker.engine.hearing import AudioBuffer, Ear, patience
from icebreaker.engine.messages import SessionConfig


def listen(probabilities: list[float]) -> Ear:
    ear = Ear()
    for index, probability in enumerate(probabilities):
        ear = ear.heard(probability, 0.5, 512 * index)
    return ear


def test_a_click_is_no_speech_and_two_windows_are() -> None:
    assert not listen([0.0, 0.9, 0.0, 0.9, 0.1]).speaking
    ear = listen([0.0, 0.0, 0.9, 0.9, 0.9])
    assert (ear.speaking, ear.started, ear.voiced_ms) == (True, 2 * 512, 96)


def test_hysteresis_and_silence() -> None:
    ear = listen([0.9, 0.9, 0.4, 0.4, 0.1, 0.1])
    assert ear.speaking
    assert ear.quiet_ms == 64  # 0.4 is not below 0.35: still speech
    assert ear.voiced_ms == 128


def test_eagerness_orders_everything() -> None:
    config = SessionConfig()
    low, auto, high = (patience(replace(config, eagerness=e), 0.5) for e in ("low", "auto", "high"))  # type: ignore[arg-type]
    assert low.take > auto.take == 0.5 > high.take
    assert low.silence_ms > auto.silence_ms > high.silence_ms
    assert low.confirm_ms > auto.confirm_ms > high.confirm_ms
    silence = patience(replace(config, turns="silence", silence_ms=700), 0.5)
    assert silence.silence_ms == 700
    assert silence.take > 1


def test_the_buffer_remembers_what_it_is_asked_to() -> None:
    buffer, sound = AudioBuffer(), np.arange(1, 101, dtype=np.float32)
    for start in range(0, 100, 7):
        buffer.push(sound[start : start + 7])
    assert buffer.stop == 100
    np.testing.assert_array_equal(buffer.take(10, 30), sound[10:30])
    buffer.forget(50)
    assert 43 < buffer.start <= 50
    np.testing.assert_array_equal(buffer.take(50, 60), sound[50:60])
    np.testing.assert_array_equal(buffer.take(95, 105), [96, 97, 98, 99, 100, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(buffer.take(-3, 2), 0)
