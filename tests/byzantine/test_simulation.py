"""Rounds of the pure machines among liars, for some hundred seeds; `tests/soak/byzantine.py` has more of them."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.byzantine.scenario import ROLES, Scenario
from tests.byzantine.simulation import KINDS_OF_ROUNDS, simulate

BATCHES, RUNS = 10, 12
"""Some ten seconds of one core."""


@pytest.fixture(scope="module")
def told() -> Counter[str]:
    """What the runs of this process have counted."""
    return Counter()


@pytest.mark.parametrize("batch", range(BATCHES))
def test_liars_end_nobody_and_forge_nothing(batch: int, told: Counter[str]) -> None:
    for seed in range(batch * RUNS, (batch + 1) * RUNS):
        told.update(simulate(seed))
    assert told["adoptions"], "rounds are held among the lies"


def test_liars_have_said_every_kind(told: Counter[str]) -> None:
    for seed in range(1000, 1400):
        if all(told[f"lied: {kind}"] for kind in KINDS_OF_ROUNDS):
            break
        told.update(simulate(seed))
    assert not [kind for kind in KINDS_OF_ROUNDS if not told[f"lied: {kind}"]]


def test_scenarios_have_every_role_with_keys_and_without() -> None:
    scenarios = [Scenario.of(seed) for seed in range(BATCHES * RUNS)]
    assert {(each.role, each.keyed) for each in scenarios} == {
        (role, keyed) for role in ROLES for keyed in (True, False)
    }
    assert all(2 * len(set(each.liars) & set(each.names)) < len(each.names) for each in scenarios)


def test_a_seed_is_the_same_run() -> None:
    assert simulate(7) == simulate(7)


def test_a_vote_in_an_attempt_that_never_was_hides_no_outcome() -> None:
    """B says that it has voted later than all others, which have committed a round that only a has adopted."""
    assert simulate(200347)["adoptions"]


def test_no_leader_has_a_round_adopted_below_the_quorum_of_its_plan() -> None:
    """Two of six lie, and one leads: it closed with one contribution, and members that had none in it voted."""
    assert simulate(200612)["adoptions"]


def test_a_late_vote_voids_no_outcome() -> None:
    """What may have been committed was held anew once a vote for its recovery had not come in time."""
    assert simulate(200760)["adoptions"]
