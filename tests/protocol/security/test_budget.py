"""Budgets: nobody causes more than it is allowed, what has ended is given back, and honest peers have room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.retransmission import Outbox
from protocol.security.budget import ALLOWANCES, MAX_TRACKED, Allowance, Budget, Cost

ALLOWED = {
    Cost.MESSAGES: Allowance(10, 20),
    Cost.RECEIVED: Allowance(1000, 2000),
    Cost.SUBSCRIPTIONS: Allowance(0, 5),
}
COSTS = st.sampled_from([*ALLOWED])


@pytest.fixture
def budget() -> Budget:
    return Budget(ALLOWED)


def test_what_is_beyond_is_refused_until_the_bucket_fills(budget: Budget) -> None:
    assert [budget.charge("a", Cost.MESSAGES, 1, 0.0) for _ in range(21)] == [True] * 20 + [False]
    assert not budget.charge("a", Cost.MESSAGES, 1, 0.05)
    assert budget.charge("a", Cost.MESSAGES, 1, 0.2)
    assert budget.charge("b", Cost.MESSAGES, 1, 0.0), "each has a budget of its own"
    assert budget.charge("a", Cost.RECEIVED, 1, 0.0), "and one for each cost"


def test_a_long_silence_saves_up_no_more_than_a_burst(budget: Budget) -> None:
    assert [budget.charge("a", Cost.MESSAGES, 1, 1e6) for _ in range(21)] == [True] * 20 + [False]
    assert [budget.charge("a", Cost.MESSAGES, 1, 2e6) for _ in range(21)] == [True] * 20 + [False]


def test_few_may_be_too_much_as_well(budget: Budget) -> None:
    assert [budget.charge("a", Cost.RECEIVED, 900, 0.0) for _ in range(3)] == [True, True, False]
    assert budget.charge("a", Cost.RECEIVED, 900, 1.0)


def test_what_is_held_is_given_back_and_nothing_else_is_refilled(budget: Budget) -> None:
    assert [budget.charge("a", Cost.SUBSCRIPTIONS, 1, 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert not budget.charge("a", Cost.SUBSCRIPTIONS, 1, 1e9)
    assert budget.charge("a", Cost.SUBSCRIPTIONS, -2, 1e9)
    assert [budget.charge("a", Cost.SUBSCRIPTIONS, 1, 1e9) for _ in range(3)] == [True, True, False]


def test_nobody_has_more_for_what_it_gives_back(budget: Budget) -> None:
    budget.charge("a", Cost.SUBSCRIPTIONS, -100, 0.0)
    assert [budget.charge("a", Cost.SUBSCRIPTIONS, 1, 0.0) for _ in range(6)] == [True] * 5 + [False]


def test_a_cost_without_an_allowance_is_free(budget: Budget) -> None:
    assert budget.charge("a", Cost.HANDSHAKES, 1e12, 0.0)


@given(st.lists(st.tuples(COSTS, st.floats(0, 3), st.integers(0, 200))))
def test_nobody_exceeds_rate_and_burst(charged: list[tuple[Cost, float, int]]) -> None:
    budget, now, taken = Budget(ALLOWED), 0.0, dict.fromkeys(ALLOWED, 0)
    for cost, pause, amount in charged:
        now += pause
        if budget.charge("a", cost, amount, now):
            taken[cost] += amount
    for cost, allowed in ALLOWED.items():
        assert taken[cost] <= allowed.rate * now + allowed.burst + 1e-6


def test_names_without_end_take_no_memory(budget: Budget) -> None:
    for number in range(5 * MAX_TRACKED):
        budget.charge(f"n{number}", Cost.MESSAGES, 1, 0.0)
    assert len(budget._buckets[Cost.MESSAGES]) == MAX_TRACKED


def test_addresses_without_end_take_nothing_from_the_peers(budget: Budget) -> None:
    allowed = {Cost.MESSAGES: Allowance(0, 1), Cost.ACCEPTED: Allowance(0, 1)}
    budget = Budget(allowed)
    assert budget.charge("a", Cost.MESSAGES, 1, 0.0)
    for number in range(5 * MAX_TRACKED):
        budget.charge(f"10.0.0.{number}", Cost.ACCEPTED, 1, 0.0)
    assert not budget.charge("a", Cost.MESSAGES, 1, 0.0)


def test_every_cost_is_bounded_for_everybody() -> None:
    assert set(ALLOWANCES) == set(Cost)


@pytest.mark.parametrize(
    ("cost", "amount", "a_second", "seconds"),
    [
        (Cost.MESSAGES, 1, 4000, 10),
        (Cost.RECEIVED, 200_000, 4000, 10),
        (Cost.REPEATED, Outbox().capacity, 1, 100),  # a whole buffer, again and again
        (Cost.HANDSHAKES, 1, 2, 1000),  # ZeroMQ makes both connections anew once a second
        (Cost.JOIN_REQUESTS, 1, 1, 1000),
    ],
)
def test_an_honest_peer_never_meets_its_bounds(cost: Cost, amount: float, a_second: int, seconds: int) -> None:
    budget = Budget()
    assert all(budget.charge("a", cost, amount, turn / a_second) for turn in range(a_second * seconds))


def test_two_hundred_and_fifty_six_peers_fit_behind_one_address() -> None:
    budget, peers = Budget(), 256
    for cost in (Cost.ACCEPTED, Cost.DESCRIPTORS):
        assert all(budget.charge("10.0.0.1", cost, 1, 0.0) for _ in range(2 * peers))
