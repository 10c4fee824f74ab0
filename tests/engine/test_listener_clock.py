from icebreaker.engine.listener_clock import ListenerClock


def test_it_stands_while_he_pauses_and_goes_on_where_it_stood() -> None:
    clock = ListenerClock()
    assert clock.at(10.0) == 10.0
    clock.stop(11.0)
    assert clock.stands
    assert (clock.at(10.5), clock.at(11.0), clock.at(99.0)) == (10.5, 11.0, 11.0)
    assert clock.go_on(13.0) == 2.0
    assert not clock.stands
    assert clock.at(14.0) == 12.0
    clock.stop(15.0)
    clock.go_on(15.5)
    assert clock.at(16.0) == 13.5


def test_to_go_on_changes_nothing_where_nobody_pauses() -> None:
    clock = ListenerClock()
    assert clock.go_on(7.0) == 0.0
    assert clock.at(8.0) == 8.0
