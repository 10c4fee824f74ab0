"""Sound passes a little ahead of its playback, holds at once, and goes on at the very next sample."""

import numpy as np
import pytest

from icebreaker.engine.events import AudioDelta, PlaybackGoesOn, PlaybackHeld
from icebreaker.engine.valve import HOLD_MOST_S, JITTER_S, Due, GoneOn, Passed, Paused, Valve

RATE = 24_000
SOUND = np.arange(5 * RATE, dtype=np.float32) / RATE  # each sample is its own time


def piece(start_s: float, stop_s: float) -> AudioDelta:
    waveform = SOUND[round(start_s * RATE) : round(stop_s * RATE)]
    return AudioDelta(response_id="r", item_id="i", waveform=waveform, start_ms=1000 * start_s)


def sound(taken: list[Due]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *(d.waveform for d in taken if isinstance(d, AudioDelta))])


def told(taken: list[Due]) -> list[Due]:
    return [due for due in taken if not isinstance(due, AudioDelta)]


def heard(valve: Valve) -> list[Passed]:
    return [passed for passed in valve.take_passed() if isinstance(passed, Passed)]


@pytest.fixture
def valve() -> Valve:
    """With 3 s of sound waiting, at second 10."""
    valve = Valve(RATE)
    valve.lead_s = 0.25
    valve.begin(10.0)
    for start in (0.0, 0.7, 1.9):
        valve.put(piece(start, {0.0: 0.7, 0.7: 1.9, 1.9: 3.0}[start]))
    return valve


def run(valve: Valve, start_s: float, stop_s: float, step_s: float = 0.01) -> list[Due]:
    return [due for now in np.arange(start_s, stop_s, step_s) for due in valve.take(float(now))]


def test_unless_speech_may_interrupt_everything_passes_at_once() -> None:
    valve = Valve(RATE)
    valve.begin(1.0)
    valve.put(piece(0, 3))
    assert valve.due_in(1.0) == 0
    assert len(sound(valve.take(1.0))) == 3 * RATE
    assert valve.playback(1.0 + JITTER_S + 0.5).played_ms == pytest.approx(500)


def test_it_passes_no_further_ahead_than_it_may_and_never_runs_dry(valve: Valve) -> None:
    taken = []
    for now in np.arange(10.0, 13.5, 0.01):
        taken += valve.take(float(now))
        assert valve.playback(float(now)).lead_ms <= 250 + 1e-6
        assert len(sound(taken)) == valve.sent_samples
    np.testing.assert_array_equal(sound(taken), SOUND[: 3 * RATE])
    assert all(abs(delta.waveform[0] - delta.start_ms / 1000) < 1 / RATE for delta in taken)
    assert not valve.is_waiting
    assert not any(passed.dry for passed in heard(valve))
    assert max(map(len, (delta.waveform for delta in taken[2:-1]))) <= 0.06 * RATE, "in small pieces"


def test_it_says_when_to_look_again(valve: Valve) -> None:
    now, taken = 10.0, 0
    for _ in range(200):
        taken += len(sound(valve.take(now)))
        wait_s = valve.due_in(now)
        if wait_s is None:
            break
        assert not valve.take(now + 0.9 * wait_s) or wait_s == 0
        now += wait_s
    assert taken == 3 * RATE
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
    passed = heard(valve)
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
    first, late = heard(valve)
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


def test_a_listener_who_pauses_is_told_and_keeps_what_he_has(valve: Valve) -> None:
    valve.pauses = True
    before = run(valve, 10.0, 11.0)
    valve.hold(11.0)
    assert valve.due_in(11.0) == 0, "he is told at once"
    assert valve.take(11.0) == [PlaybackHeld()]
    kept_s, played = valve.dry_in(11.0), valve.played_samples(11.0)
    assert kept_s > 0.15
    assert valve.due_in(11.0) == pytest.approx(HOLD_MOST_S)
    assert run(valve, 11.0, 11.6) == []
    assert valve.dry_in(11.6) == pytest.approx(kept_s), "time held is not time played"
    assert valve.played_samples(11.6) == played
    valve.release()
    assert valve.due_in(11.6) == 0
    after = run(valve, 11.6, 15.0)
    assert told(after) == [PlaybackGoesOn()]
    assert after[0] == PlaybackGoesOn()
    np.testing.assert_array_equal(sound([*before, *after]), SOUND[: 3 * RATE])
    assert valve.played_samples(15.0) == 3 * RATE
    passed = valve.take_passed()
    assert [each for each in passed if not isinstance(each, Passed)] == [
        Paused(pytest.approx(kept_s)), GoneOn(pytest.approx(0.6))
    ]  # fmt: skip
    assert not any(each.gap_s or each.dry for each in passed if isinstance(each, Passed)), "he never ran dry"


def test_who_paused_and_is_interrupted_heard_no_more_than_until_then(valve: Valve) -> None:
    valve.pauses = True
    run(valve, 10.0, 11.0)
    valve.hold(11.0)
    assert valve.take(11.0) == [PlaybackHeld()]
    played = valve.played_samples(11.0)
    assert played == pytest.approx((1.0 - JITTER_S) * RATE, abs=1)
    assert played < valve.sent_samples
    valve.stop(11.6)
    assert valve.played_samples(11.6) == valve.played_samples(12.0) == played
    assert (valve.dry_in(11.6), valve.is_waiting, valve.is_held) == (0, False, False)
    valve.release()
    assert run(valve, 11.6, 12.0) == [], "speech_started says it all"
    valve.begin(12.0)
    valve.put(piece(0, 1))
    assert told(run(valve, 12.0, 12.5)) == []
    assert valve.played_samples(12.5) == pytest.approx((0.5 - JITTER_S) * RATE, abs=1), "the next one plays at once"


def test_who_paused_and_cancels_is_told_to_go_on(valve: Valve) -> None:
    valve.pauses = True
    run(valve, 10.0, 11.0)
    valve.hold(11.0)
    valve.take(11.0)
    kept_s = valve.dry_in(11.0)
    valve.cut()
    assert valve.take(11.5) == [PlaybackGoesOn()]
    assert valve.dry_in(11.5) == pytest.approx(kept_s), "he plays what he was sent"


def test_a_hold_that_is_over_before_it_is_told_is_not_told(valve: Valve) -> None:
    valve.pauses = True
    run(valve, 10.0, 11.0)
    valve.hold(11.0)
    valve.release()
    assert told(run(valve, 11.0, 12.0)) == []


def test_a_listener_is_not_left_pausing_for_ever_nor_after_all_was_sent(valve: Valve) -> None:
    valve.pauses = True
    run(valve, 10.0, 12.95)
    assert not valve.is_waiting
    valve.hold(12.95)
    assert valve.take(12.95) == [PlaybackHeld()]
    assert valve.due_in(13.0) == pytest.approx(HOLD_MOST_S - 0.05), "though nothing waits"
    assert valve.dry_in(14.9) > 0
    assert told(run(valve, 13.0, 15.2)) == [PlaybackGoesOn()]
    assert valve.dry_in(15.2) == 0


def test_the_reply_after_a_pause_begins_after_what_was_kept(valve: Valve) -> None:
    valve.pauses = True
    run(valve, 10.0, 12.95)
    valve.hold(12.95)
    valve.take(12.95)
    kept_s = valve.dry_in(12.95)
    valve.begin(13.2)
    valve.put(piece(0, 1))
    assert valve.take(13.4) == []
    valve.release()
    run(valve, 13.5, 13.5 + kept_s)
    assert valve.played_samples(13.5 + kept_s) == 0
    run(valve, 13.5 + kept_s, 14.0 + kept_s)
    assert valve.played_samples(14.0 + kept_s) == pytest.approx(0.5 * RATE, abs=0.02 * RATE)
