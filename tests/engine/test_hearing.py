"""When speech begins and stops, how patient the assistant is, and the buffer behind it."""

from dataclasses import replace

import numpy as np
import pytest

from icebreaker.engine.hearing import EARLY_MS, AudioBuffer, Ear, Opinion, patience
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
    assert silence.silence_needed(Opinion()) == silence.silence_needed(Opinion(((1.0, 0.0),))) == 700
    assert not silence.dismisses(Opinion(((0.0, 0.0),)), 800)


def test_the_head_shortens_and_lengthens_the_silence() -> None:
    auto = patience(SessionConfig(), 0.5)
    sure, likely, going_on = (Opinion().heard(take, 0.0) for take in (0.6, 0.4, 0.1))
    waits = [auto.silence_needed(opinion) for opinion in (sure, likely, Opinion(), going_on)]
    assert waits == [EARLY_MS, 500, 800, 1600]
    assert sure.heard(0.1, 0.0).take == pytest.approx(0.35)
    assert going_on.heard(0.9, 0.0).heard(0.9, 0.0).heard(0.9, 0.0).heard(0.9, 0.0).take == pytest.approx(0.9)


def test_what_calls_for_no_answer_is_dismissed_in_the_end() -> None:
    auto, nothing = patience(SessionConfig(), 0.5), Opinion().heard(0.1, 0.3)
    assert auto.dismisses(nothing, 832)
    assert not auto.dismisses(nothing, 480)  # not yet
    assert not auto.dismisses(Opinion().heard(0.2, 0.1), 832)  # a sentence that is not complete
    assert not auto.dismisses(Opinion().heard(0.02, 0.1), 832)  # the user is most likely to go on
    assert auto.dismisses(Opinion().heard(0.02, 0.3), 832)
    assert not auto.dismisses(Opinion().heard(0.4, 0.5), 832)  # ends the turn before that


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
