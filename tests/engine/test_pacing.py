"""Shares of sound, from leads and the slowness of ticks alone."""

import pytest

from icebreaker.engine.pacing import CROWD_S, ENOUGH_S, FIRST_S, GUESSED, MOST_S, NEVER_HEARD, PIECE_S, Pacing

AHEAD_S = 4.0


def slow(tick_s: float) -> Pacing:
    pacing = Pacing(AHEAD_S)
    pacing.ticked(tick_s)
    return pacing


def test_a_first_sound_is_short_while_ticks_are_fast() -> None:
    assert slow(0.02).share({0: NEVER_HEARD}) == {0: FIRST_S}


@pytest.mark.parametrize("tick_s", [0.15, 0.3])
def test_a_first_sound_outlasts_the_next_tick(tick_s: float) -> None:
    assert slow(tick_s).share({0: NEVER_HEARD})[0] > tick_s


def test_a_short_lead_is_filled_up_to_what_a_tick_takes() -> None:
    assert slow(0.4).share({0: 0.05})[0] + 0.05 > 0.4
    assert slow(0.1).share({0: 0.3}) == {0: PIECE_S}


def test_no_piece_is_too_long() -> None:
    assert slow(5.0).share({0: NEVER_HEARD, 1: 0.0}) == {0: MOST_S, 1: MOST_S}


@pytest.mark.parametrize("urgent", [NEVER_HEARD, 0.1])
def test_who_has_enough_waits_for_the_urgent(urgent: float) -> None:
    shares = slow(0.1).share({0: urgent, 1: ENOUGH_S + 0.1, 2: ENOUGH_S - 0.1})
    assert shares.keys() == {0, 2}


def test_nobody_is_made_too_far_ahead() -> None:
    assert slow(0.1).share({0: AHEAD_S + 0.01, 1: AHEAD_S - 0.01}).keys() == {1}
    assert slow(9.0).share({0: AHEAD_S + 0.01}) == {}


def test_where_sound_is_dear_those_who_need_it_most_have_theirs_first() -> None:
    pacing = slow(0.1)
    leads = {0: 0.9, 1: 0.7, 2: GUESSED, 3: 1.1, 4: 0.8}
    assert pacing.share(leads).keys() == leads.keys()
    pacing.made(1.0, 0.1)  # a tenth of a second for a second of sound: two pieces a tick
    assert pacing.share(leads).keys() == {1, 4}
    assert pacing.share({0: 0.3, 1: 0.2, 2: 0.5, 3: 0.1}).keys() == {0, 1, 2, 3}  # nobody may run dry
    assert pacing.share({0: 2.0}) == {0: PIECE_S}
    for _ in range(40):
        pacing.made(2.0, 0.02)
    assert pacing.share(leads).keys() == leads.keys()


def test_slow_ticks_are_remembered_for_a_while() -> None:
    pacing = slow(0.5)
    pacing.ticked(0.1)
    assert 0.4 < pacing.slowest_s < 0.5
    for _ in range(50):
        pacing.ticked(0.1)
    assert pacing.slowest_s == pytest.approx(0.1)


def test_time_to_think_ends_where_somebody_runs_dry() -> None:
    pacing = Pacing(AHEAD_S)
    assert pacing.spare_s({0: NEVER_HEARD, 1: 0.7, 2: 0.3}) == 0.3
    assert pacing.spare_s({0: NEVER_HEARD}) == AHEAD_S


def test_whoever_would_run_dry_while_all_is_made_is_served_first() -> None:
    pacing = Pacing(4.0)
    leads = {1: GUESSED, 2: 0.5, 3: NEVER_HEARD, 4: 0.1, 5: 0.2}
    wanted = dict.fromkeys(leads, 0.4)
    assert pacing.in_order(leads, wanted) == [[3, 4], [1, 2, 5]]
    pacing.made(1.0, 0.2)  # so all of it takes 0.4 s
    assert pacing.in_order(leads, wanted) == [[3, 4, 5], [1, 2]]
    assert pacing.in_order({}, {}) == [[], []]


def test_a_reply_begins_with_more_sound_the_more_people_there_are() -> None:
    assert Pacing(4.0).share({0: NEVER_HEARD}, others=5) == {0: FIRST_S + 5 * CROWD_S}
    assert Pacing(4.0).share({0: 3.0, 1: NEVER_HEARD}, others=1)[1] == FIRST_S + 2 * CROWD_S
    assert Pacing(4.0).share({0: NEVER_HEARD}, others=1000) == {0: MOST_S}
