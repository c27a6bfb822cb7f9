"""The timeout of a failure detector: learned from gaps, within bounds, and never from the receiver's own pauses."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.failure_detector import GAP_FACTOR, MIN_SAMPLES, WINDOW, FailureDetector

BEAT, FLOOR, CEILING = 0.2, 0.75, 3.0


def detector(gaps: list[float]) -> FailureDetector:
    arrivals, now = FailureDetector(FLOOR, CEILING), 0.0
    arrivals.record(now)
    for gap in gaps:
        now += gap
        arrivals.record(now)
    return arrivals


def test_nothing_is_concluded_from_a_few() -> None:
    assert detector([BEAT] * (MIN_SAMPLES - 1)).timeout == CEILING
    assert detector([BEAT] * MIN_SAMPLES).timeout == FLOOR


def test_the_longest_gap_counts_for_as_long_as_it_is_remembered() -> None:
    assert detector([BEAT] * MIN_SAMPLES + [0.6]).timeout == pytest.approx(GAP_FACTOR * 0.6)
    assert detector([0.6] + [BEAT] * (WINDOW - 1)).timeout == pytest.approx(GAP_FACTOR * 0.6)
    assert detector([0.6] + [BEAT] * WINDOW).timeout == FLOOR


def test_no_gap_exceeds_the_ceiling() -> None:
    assert detector([BEAT] * MIN_SAMPLES + [60.0]).timeout == CEILING


def test_a_floor_above_the_ceiling_is_the_ceiling() -> None:
    assert FailureDetector(5.0, 2.0).timeout == 2.0
    arrivals = FailureDetector(5.0, 2.0)
    for turn in range(2 * MIN_SAMPLES):
        arrivals.record(turn * BEAT)
    assert arrivals.timeout == 2.0


@given(st.lists(st.floats(0, 100), max_size=300))
def test_it_stays_within_its_bounds(gaps: list[float]) -> None:
    assert FLOOR <= detector(gaps).timeout <= CEILING


def test_a_pause_of_the_receiver_is_no_gap() -> None:
    arrivals = detector([BEAT] * MIN_SAMPLES)
    arrivals.discount_pause(10.0)
    arrivals.record(MIN_SAMPLES * BEAT + 10.0 + BEAT)
    assert arrivals.timeout == FLOOR


@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_of_all_heartbeats_lost_costs_no_living_peer(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - replayable trouble, not secrets
    arrivals, last, alarms = FailureDetector(FLOOR, CEILING), 0.0, 0
    for beat in range(10_000):
        now = beat * BEAT + chance.uniform(0, 0.01)
        alarms += now - last > arrivals.timeout
        if chance.random() >= 0.1:
            arrivals.record(now)
            last = now
    assert alarms == 0
