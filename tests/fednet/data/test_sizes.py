"""Whole numbers add up, and unequal parts lie within their bounds."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.data.sizes import apportion, random_sizes


@settings(max_examples=200, deadline=None)
@given(weights=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), total=st.integers(0, 100))
def test_rounding_keeps_the_sum_and_moves_nobody_by_one(weights: list[int], total: int) -> None:
    wanted = np.array(weights) / sum(weights) * total
    counts = apportion(wanted, np.zeros(len(weights), dtype=np.int64))
    assert counts.sum() == total
    assert (np.abs(counts - wanted) < 1).all()
    assert (counts[wanted == 0] == 0).all()


def test_who_has_least_gets_what_is_left() -> None:
    assert apportion(np.array([0.5, 0.5]), np.array([3, 0])).tolist() == [0, 1]


@settings(max_examples=200, deadline=None)
@given(
    total=st.integers(0, 500),
    holders=st.integers(1, 9),
    least=st.floats(0, 30),
    seed=st.integers(0, 2**32),
)
def test_all_but_the_last_get_a_tenth_to_a_whole_even_part(total: int, holders: int, least: float, seed: int) -> None:
    counts = random_sizes(total, holders, least, np.random.default_rng(seed))
    even = total // holders
    assert counts.sum() == total
    assert (counts[:-1] <= even).all()
    assert counts[-1] >= even
    assert (counts >= min(even, max(least, total / holders / 10))).all()


def test_the_bounds_are_reached_and_all_between() -> None:
    draws = random_sizes(10 * 2000, 2000, 0, np.random.default_rng(0))
    assert set(draws[:-1].tolist()) == set(range(1, 11))
