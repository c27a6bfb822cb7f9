"""How long a silence may be: learned from gaps, within bounds, and never from the listener's own stalls."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.failure_detector import LENIENCE, WARM, WINDOW, FailureDetector

BEAT, FLOOR, CEILING = 0.2, 0.75, 3.0


def heard(gaps: list[float]) -> FailureDetector:
    arrivals, now = FailureDetector(FLOOR, CEILING), 0.0
    arrivals.note(now)
    for gap in gaps:
        now += gap
        arrivals.note(now)
    return arrivals


def test_nothing_is_concluded_from_a_few() -> None:
    assert heard([BEAT] * (WARM - 1)).patience == CEILING
    assert heard([BEAT] * WARM).patience == FLOOR


def test_the_longest_gap_counts_for_as_long_as_it_is_remembered() -> None:
    assert heard([BEAT] * WARM + [0.6]).patience == pytest.approx(LENIENCE * 0.6)
    assert heard([0.6] + [BEAT] * (WINDOW - 1)).patience == pytest.approx(LENIENCE * 0.6)
    assert heard([0.6] + [BEAT] * WINDOW).patience == FLOOR


def test_no_gap_makes_it_wait_for_ever() -> None:
    assert heard([BEAT] * WARM + [60.0]).patience == CEILING


def test_a_floor_above_the_ceiling_is_the_ceiling() -> None:
    assert FailureDetector(5.0, 2.0).patience == 2.0
    arrivals = FailureDetector(5.0, 2.0)
    for turn in range(2 * WARM):
        arrivals.note(turn * BEAT)
    assert arrivals.patience == 2.0


@given(st.lists(st.floats(0, 100), max_size=300))
def test_it_stays_within_its_bounds(gaps: list[float]) -> None:
    assert FLOOR <= heard(gaps).patience <= CEILING


def test_time_in_which_nobody_listened_is_no_gap() -> None:
    arrivals = heard([BEAT] * WARM)
    arrivals.excuse(10.0)
    arrivals.note(WARM * BEAT + 10.0 + BEAT)
    assert arrivals.patience == FLOOR


@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_of_all_heartbeats_lost_costs_no_living_peer(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - replayable trouble, not secrets
    arrivals, last, alarms = FailureDetector(FLOOR, CEILING), 0.0, 0
    for beat in range(10_000):
        now = beat * BEAT + chance.uniform(0, 0.01)
        alarms += now - last > arrivals.patience
        if chance.random() >= 0.1:
            arrivals.note(now)
            last = now
    assert alarms == 0
