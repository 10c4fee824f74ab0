"""What is looked for in the microphone is what the listener hears, when he hears it."""

import numpy as np
import pytest

from icebreaker.engine.echo import EchoDetector
from icebreaker.engine.events import AudioDelta
from icebreaker.engine.loudspeaker import Loudspeaker
from icebreaker.engine.valve import JITTER_S, Valve

RATE = 16_000
NOISE = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)


@pytest.mark.parametrize("samples", [0, 1, 4321, 4800, 15_999, RATE])
def test_what_is_taken_back_and_played_later_is_only_later(samples: int) -> None:
    paused, undisturbed = EchoDetector(), EchoDetector()
    for detector in (paused, undisturbed):
        detector.begin(0)
    for piece in np.array_split(NOISE, 7):
        paused.play(piece)
    back = paused.take_back(samples)
    np.testing.assert_array_equal(back, NOISE[RATE - samples :])
    silence = np.zeros(6400, np.float32)
    paused.play(np.concatenate([silence, back]))
    undisturbed.play(np.concatenate([NOISE[: RATE - samples], silence, back]))
    np.testing.assert_allclose(paused._played, undisturbed._played, atol=1e-4)
    np.testing.assert_array_equal(paused._sound, undisturbed._sound)


def test_while_the_listener_pauses_nothing_plays_and_then_the_rest() -> None:
    valve, echo = Valve(RATE), EchoDetector()
    valve.lead_s, valve.pauses = 0.25, True
    loudspeaker = Loudspeaker(valve, echo)
    valve.begin(0.0)
    valve.put(AudioDelta(response_id="r", item_id="i", waveform=NOISE, start_ms=0.0))

    def pass_until(start_s: float, stop_s: float) -> None:
        for now in np.arange(start_s, stop_s, 0.01):
            valve.take(float(now))
            loudspeaker.follow(round(now * RATE))

    pass_until(0.0, 0.5)
    valve.hold(0.5)
    pass_until(0.5, 0.9)
    assert len(echo._played) == pytest.approx(100 * (0.5 - JITTER_S), abs=4), "of the moment at which it was sent"
    valve.release()
    pass_until(0.9, 2.0)
    loud = echo._played.max(axis=1) > -60
    first, last = np.flatnonzero(~loud)[[0, -1]]
    assert first == pytest.approx(100 * (0.5 - JITTER_S), abs=4)
    assert last - first + 1 == pytest.approx(40, abs=4)
    assert len(echo._played) == pytest.approx(140, abs=4)


def test_what_was_kept_and_is_cut_is_never_played() -> None:
    valve, echo = Valve(RATE), EchoDetector()
    valve.lead_s, valve.pauses = 0.25, True
    loudspeaker = Loudspeaker(valve, echo)
    valve.begin(0.0)
    valve.put(AudioDelta(response_id="r", item_id="i", waveform=NOISE, start_ms=0.0))
    for now in np.arange(0.0, 0.5, 0.01):
        valve.take(float(now))
        loudspeaker.follow(round(now * RATE))
    valve.hold(0.5)
    valve.take(0.5)
    valve.stop(0.9)
    loudspeaker.stop(round(0.9 * RATE))
    assert len(echo._sound) / RATE == pytest.approx(0.5 - JITTER_S, abs=0.03)
