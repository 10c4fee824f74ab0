"""A loudspeaker by the clock."""

import pytest

from icebreaker.engine.playback import Playback


def test_it_plays_what_it_has_and_no_more() -> None:
    playing = Playback(at_s=10.0).send(500, 10.0)
    assert playing.at(10.2).played_ms == pytest.approx(200)
    assert playing.at(10.2).lead_ms == pytest.approx(300)
    assert playing.at(99.0).played_ms == pytest.approx(500)


def test_running_dry_counts_and_pauses() -> None:
    playing = Playback(at_s=0.0).send(200, 0.0).send(200, 0.1)
    assert playing.underruns == 0
    late = playing.send(200, 1.0)
    assert late.underruns == 1
    assert late.at(1.1).played_ms == pytest.approx(500)


def test_it_may_still_be_busy_with_something_else() -> None:
    playing = Playback(at_s=5.0).send(400, 4.0)
    assert playing.at(4.9).played_ms == pytest.approx(0)
    assert playing.at(5.1).played_ms == pytest.approx(100.0)
