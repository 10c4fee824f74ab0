import numpy as np
import pytest

from icebreaker.client.playback import Playback

RATE = 1000


def sound(milliseconds: int, level: float = 0.5) -> np.ndarray:
    return np.full(milliseconds, level, dtype=np.float32)


def test_pieces_queue_and_a_gap_is_an_underrun() -> None:
    playback = Playback(RATE)
    playback.push(1.0, sound(100), "a")
    playback.push(1.05, sound(100, 0.25), "a")  # early: waits
    playback.push(1.3, sound(50), "a")  # 100 ms late
    assert playback.underruns == [(pytest.approx(1.2), pytest.approx(0.1))]
    heard = playback.heard("a")
    assert (heard.heard_ms, heard.start_s, heard.end_s) == (250.0, 1.0, 1.35)
    np.testing.assert_array_equal(playback.between(1.09, 1.11), [0.5] * 10 + [0.25] * 10)
    np.testing.assert_array_equal(playback.between(1.19, 1.21), [0.25] * 10 + [0.0] * 10)
    np.testing.assert_array_equal(playback.between(-0.01, 0.01), np.zeros(20))
    assert playback.pending_s(1.25) == pytest.approx(0.1)


def test_a_jitter_buffer_holds_the_first_sound_back() -> None:
    playback = Playback(RATE, 0.08)
    playback.push(1.0, sound(70), "a")
    playback.push(1.1, sound(100), "a")  # in time: what was there lasts until 1.15
    playback.push(1.2, sound(50), "b")  # in its turn, and late enough
    playback.push(2.0, sound(50), "c")
    assert playback.heard("c").start_s == pytest.approx(2.08)
    playback.push(2.04, sound(50), "c")  # enough
    playback.push(3.0, sound(80), "d")  # at once
    starts = [playback.heard(reply).start_s for reply in "abcd"]
    assert starts == pytest.approx([1.08, 1.28, 2.04, 3.0])
    assert playback.heard("c").end_s == pytest.approx(2.14)
    assert playback.underruns == []


def test_less_than_a_millisecond_is_rounding() -> None:
    playback = Playback(24_000)
    playback.push(0.0, np.zeros(240, np.float32), "a")
    playback.push(0.0105, np.zeros(240, np.float32), "a")
    assert playback.underruns == []
    playback.push(0.0205 + 0.001, np.zeros(240, np.float32), "a")
    assert len(playback.underruns) == 1


def test_silence_between_two_replies_is_no_underrun() -> None:
    playback = Playback(RATE)
    playback.push(0.0, sound(100), "a")
    playback.push(5.0, sound(100), "b")
    assert playback.underruns == []


def test_stop_takes_back_what_was_not_heard() -> None:
    playback = Playback(RATE)
    playback.push(0.0, sound(300), "a")
    playback.push(0.1, sound(300), "a")
    playback.push(0.1, sound(300), "b")
    heard = playback.stop(0.45)
    assert heard is not None
    assert (heard.response_id, heard.heard_ms) == ("a", 450.0)
    assert playback.heard("b").heard_ms == 0
    assert playback.pending_s(0.45) == 0
    assert not playback.between(0.45, 2.0).any()
    assert playback.stop(0.5) is None
    playback.push(0.5, sound(100), "c")
    assert playback.heard("c").start_s == 0.5


def test_audible_from_skips_soft_sound() -> None:
    playback = Playback(RATE)
    playback.push(1.0, np.concatenate([sound(80, 0.001), sound(20)]), "a")
    assert playback.audible_from("a") == pytest.approx(1.08)
    assert playback.audible_from("b") is None


def test_held_it_plays_nothing_and_then_the_very_next_sample() -> None:
    playback, ramp = Playback(RATE), np.arange(400, dtype=np.float32)
    playback.push(1.0, ramp[:300], "a")
    playback.hold(1.1)
    playback.hold(1.15)  # it is
    assert playback.pending_s(1.4) == pytest.approx(0.2)
    playback.push(1.3, ramp[300:], "a")
    assert playback.pending_s(1.4) == pytest.approx(0.3)
    np.testing.assert_array_equal(playback.between(1.05, 1.4), [*ramp[50:100], *np.zeros(300)])
    playback.go_on(1.6)
    playback.go_on(1.7)  # it does
    np.testing.assert_array_equal(
        playback.between(1.0, 2.0), [*ramp[:100], *np.zeros(500), *ramp[100:], *np.zeros(100)]
    )
    heard = playback.heard("a")
    assert (heard.heard_ms, heard.start_s, heard.end_s) == (400.0, 1.0, 1.9)
    assert playback.underruns == []


def test_stopped_while_held_it_was_heard_until_then() -> None:
    playback = Playback(RATE)
    playback.push(1.0, sound(300), "a")
    playback.hold(1.1)
    heard = playback.stop(1.5)
    assert heard is not None
    assert heard.heard_ms == 100.0
    playback.push(2.0, sound(100), "b")
    assert playback.heard("b").start_s == 2.0, "it is held no longer"


def test_time_held_is_no_gap() -> None:
    playback = Playback(RATE, 0.08)
    playback.push(1.0, sound(70), "a")
    playback.hold(1.05)  # in the jitter buffer
    playback.go_on(1.25)
    assert playback.heard("a").start_s == pytest.approx(1.28)
    playback.hold(1.4)  # it has run dry
    playback.go_on(1.7)
    playback.push(1.72, sound(100), "a")
    assert playback.underruns == [(pytest.approx(1.35), pytest.approx(0.07))]
    playback.push(1.92, sound(100), "a")
    assert len(playback.underruns) == 2, "what was held before counts once"
