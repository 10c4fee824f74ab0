"""Sound passes a little ahead of its playback, holds at once, and goes on at the very next sample."""

import numpy as np
import pytest

from icebreaker.engine.events import AudioDelta
from icebreaker.engine.valve import HOLD_MOST_S, JITTER_S, Valve

RATE = 24_000
SOUND = np.arange(5 * RATE, dtype=np.float32) / RATE  # each sample is its own time


def piece(start_s: float, stop_s: float) -> AudioDelta:
    waveform = SOUND[round(start_s * RATE) : round(stop_s * RATE)]
    return AudioDelta(response_id="r", item_id="i", waveform=waveform, start_ms=1000 * start_s)


def sound(deltas: list[AudioDelta]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *(delta.waveform for delta in deltas)])


@pytest.fixture
def valve() -> Valve:
    """With 3 s of sound waiting, at second 10."""
    valve = Valve(RATE)
    valve.lead_s = 0.25
    valve.begin(10.0)
    for start in (0.0, 0.7, 1.9):
        valve.put(piece(start, {0.0: 0.7, 0.7: 1.9, 1.9: 3.0}[start]))
    return valve


def run(valve: Valve, start_s: float, stop_s: float, step_s: float = 0.01) -> list[AudioDelta]:
    return [delta for now in np.arange(start_s, stop_s, step_s) for delta in valve.take(float(now))]


def test_unless_speech_may_interrupt_everything_passes_at_once() -> None:
    valve = Valve(RATE)
    valve.begin(1.0)
    valve.put(piece(0, 3))
    assert valve.due_in(1.0) == 0
    assert len(sound(valve.take(1.0))) == 3 * RATE
    assert valve.playback(1.0 + JITTER_S + 0.5).played_ms == pytest.approx(500)


def test_it_passes_no_further_ahead_than_it_may_and_never_runs_dry(valve: Valve) -> None:
    heard = []
    for now in np.arange(10.0, 13.5, 0.01):
        heard += valve.take(float(now))
        assert valve.playback(float(now)).lead_ms <= 250 + 1e-6
        assert len(sound(heard)) == valve.sent_samples
    np.testing.assert_array_equal(sound(heard), SOUND[: 3 * RATE])
    assert all(abs(delta.waveform[0] - delta.start_ms / 1000) < 1 / RATE for delta in heard)
    assert not valve.is_waiting
    assert not any(passed.dry for passed in valve.take_passed())
    assert max(map(len, (delta.waveform for delta in heard[2:-1]))) <= 0.06 * RATE, "in small pieces"


def test_it_says_when_to_look_again(valve: Valve) -> None:
    now, heard = 10.0, 0
    for _ in range(200):
        heard += len(sound(valve.take(now)))
        wait_s = valve.due_in(now)
        if wait_s is None:
            break
        assert not valve.take(now + 0.9 * wait_s) or wait_s == 0
        now += wait_s
    assert heard == 3 * RATE
    assert now == pytest.approx(10 + JITTER_S + 3.0 - 0.25, abs=0.02)


def test_held_nothing_passes_and_then_it_goes_on_at_the_next_sample(valve: Valve) -> None:
    before = run(valve, 10.0, 11.0)
    valve.hold(11.0)
    assert valve.due_in(11.0) == pytest.approx(HOLD_MOST_S)
    assert run(valve, 11.0, 11.6) == []
    assert valve.playback(11.6).lead_ms == 0, "all that was sent was heard within the lead"
    valve.release()
    after = run(valve, 11.6, 15.0)
    np.testing.assert_array_equal(sound([*before, *after]), SOUND[: 3 * RATE])
    passed = valve.take_passed()
    gaps = [each.gap_s for each in passed if each.gap_s]
    assert gaps == [pytest.approx(0.35, abs=0.05)]
    assert not any(each.dry for each in passed), "a gap of our own making is no underrun"


def test_cut_while_held_what_was_sent_is_what_was_heard(valve: Valve) -> None:
    before = run(valve, 10.0, 11.0)
    valve.hold(11.0)
    assert run(valve, 11.0, 11.5) == []
    valve.cut()
    assert valve.played_samples(11.5) == valve.sent_samples == len(sound(before))
    assert run(valve, 11.5, 15.0) == []
    assert not valve.is_held


def test_a_verdict_that_never_comes_holds_nobody_for_ever(valve: Valve) -> None:
    before = run(valve, 10.0, 11.0)
    valve.hold(11.0)
    assert run(valve, 11.0, 11.0 + HOLD_MOST_S - 0.01) == []
    after = run(valve, 11.0 + HOLD_MOST_S, 17.0)
    np.testing.assert_array_equal(sound([*before, *after]), SOUND[: 3 * RATE])


def test_sound_that_comes_late_is_an_underrun() -> None:
    valve = Valve(RATE)
    valve.lead_s = 0.25
    valve.begin(10.0)
    valve.put(piece(0, 0.2))
    valve.take(10.0)
    valve.put(piece(0.2, 0.4))
    valve.take(10.8)
    first, late = valve.take_passed()
    assert (first.first, late.first, late.dry) == (True, False, True)
    assert late.gap_s == pytest.approx(10.8 - 10.0 - JITTER_S - 0.2)


def test_a_reply_plays_after_the_one_before() -> None:
    valve = Valve(RATE)
    valve.begin(1.0)
    valve.put(piece(0, 2))
    valve.take(1.0)
    valve.begin(2.0)
    assert valve.sent_samples == 0
    valve.put(piece(0, 1))
    valve.take(2.0)
    assert valve.played_samples(3.0) == 0
    assert valve.played_samples(1.0 + JITTER_S + 2.0 + 0.5) == pytest.approx(0.5 * RATE, abs=1)
    valve.silence(3.6)
    assert valve.dry_in(3.6) == 0


def test_release_wakes_whoever_waits(valve: Valve) -> None:
    woken: list[bool] = []
    valve.changed = lambda: woken.append(True)
    valve.hold(10.0)
    assert not woken
    valve.release()
    assert woken
