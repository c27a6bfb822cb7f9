"""Clocks that differ are told apart from heartbeats that are late."""

from __future__ import annotations

import pytest

from protocol.clocks import MAX_CLOCK_SKEW, ClockComparison, clock_remark


def beats(clocks: ClockComparison, ahead: float, start: float, seconds: float) -> list[bool]:
    """What is found at each of the heartbeats of some seconds, five a second."""
    times = [start + 0.2 * number for number in range(round(5 * seconds) + 1)]
    return [clocks.heard("a", 1000.0 + time + ahead, 1000.0 + time, time) for time in times]


@pytest.mark.parametrize("ahead", [600.0, -600.0, 2.5])
def test_a_difference_that_lasts_is_found_once(ahead: float) -> None:
    clocks = ClockComparison()
    assert sum(beats(clocks, ahead, 0.0, 30.0)) == 1
    assert clocks.ahead("a") == pytest.approx(ahead)


@pytest.mark.parametrize("ahead", [0.0, MAX_CLOCK_SKEW, -MAX_CLOCK_SKEW + 0.1])
def test_a_small_one_is_nothing(ahead: float) -> None:
    clocks = ClockComparison()
    assert not any(beats(clocks, ahead, 0.0, 30.0))
    assert clocks.ahead("a") == 0.0


def test_heartbeats_that_waited_for_a_paused_receiver_say_nothing() -> None:
    clocks = ClockComparison()
    found = [clocks.heard("a", 1000.0 + 0.2 * number, 1060.0, 60.0 + 0.001 * number) for number in range(300)]
    assert not any([*found, *beats(clocks, 0.0, 61.0, 10.0)])


def test_the_least_difference_counts_since_some_heartbeats_are_late() -> None:
    clocks = ClockComparison()
    for number in range(60):
        clocks.heard("a", 400.0 - number % 3, 1000.0, float(number))
    assert clocks.ahead("a") == -600.0


def test_a_clock_that_was_set_right_may_differ_anew() -> None:
    clocks = ClockComparison()
    assert [sum(beats(clocks, ahead, start, 10.0)) for start, ahead in ((0, 600.0), (20, 0.0), (40, 600.0))] == [
        1,
        0,
        1,
    ]
    clocks.forget("a")
    assert clocks.ahead("a") == 0.0


def test_who_states_no_clock_has_none_to_differ() -> None:
    clocks = ClockComparison()
    assert not any(clocks.heard("a", 0.0, 1e9, float(now)) for now in range(60))


def test_the_remark_says_what_to_do() -> None:
    assert clock_remark(-600.0) == "it is 600.0 s behind the clock here: synchronise both machines with a time server"
