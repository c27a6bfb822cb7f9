"""When a contribution counts, which are rejected, and which outcome a majority has voted for."""

from __future__ import annotations

import pytest

from protocol.messages.rounds import (
    BlobRef,
    ContributionRef,
    ModelVersion,
    RoundClose,
    RoundOpen,
    RoundPlanMessage,
    RoundVote,
)
from protocol.quorum import DeadlineEstimator, QuorumPolicy, QuorumTracker
from protocol.rounds import ContributionTracker, VoteTracker, attempt_of, record_reasons, round_message

POLICY = QuorumPolicy(hard_limit=100.0)


def blob(letter: str) -> BlobRef:
    return BlobRef(digest=letter * 64, size=1)


SHARE = ContributionRef(weight=1.0, blobs=(blob("0"),), values={})
OTHER = ContributionRef(weight=2.0, blobs=(blob("1"),), values={})


def tracker(*holders: str, names: tuple[str, ...] = ("a", "b")) -> ContributionTracker:
    return ContributionTracker(QuorumTracker.open(names, 0.0, POLICY, DeadlineEstimator(POLICY)), frozenset(holders))


def test_a_round_message_names_its_attempt() -> None:
    plan = RoundPlanMessage(key="k", requester="g", model="m", task="w", rounds=1, federation="{}", options={})
    opened = RoundOpen(
        model="m",
        number=3,
        term=7,
        attempt=2,
        index=1,
        plan=plan,
        members=("a",),
        contributors=("a",),
        versions={"m": ModelVersion(number=2, outcome=BlobRef(digest="0" * 64, size=1))},
    )
    vote = round_message(RoundVote, opened, outcome=blob("0"))
    assert (vote.model, vote.number, vote.term, vote.attempt) == ("m", 3, 7, 2)
    close = round_message(RoundClose, opened, contributions={"a": SHARE}, late=(), lost={}, refused={}, seconds=1.0)
    assert attempt_of(close) == attempt_of(vote) == attempt_of(opened) == (7, 2)


@pytest.mark.parametrize("holders", [("a",), ("a", "b", "c")])
@pytest.mark.parametrize("offered_first", [True, False])
def test_a_contribution_has_arrived_once_every_holder_has_it(holders: tuple[str, ...], offered_first: bool) -> None:
    contributions = tracker(*holders, names=("b",))
    if offered_first:
        assert contributions.add("b", SHARE, 1.0)
    for holder in holders:
        assert not contributions.outcome(2.0).closed
        contributions.mark_held(holder, "b", 2.0)
    if not offered_first:
        assert not contributions.outcome(2.0).closed
        assert contributions.add("b", SHARE, 3.0)
    assert contributions.outcome(3.0).contributed == ("b",)
    assert contributions.selected(["b"]) == {"b": SHARE}


def test_only_holders_can_hold() -> None:
    contributions = tracker("a", names=("b",))
    contributions.add("b", SHARE, 1.0)
    contributions.mark_held("c", "b", 1.0)
    assert not contributions.outcome(1.0).closed


def test_the_first_contribution_counts_and_a_second_is_named() -> None:
    contributions = tracker("a")
    assert contributions.add("b", SHARE, 1.0)
    assert not contributions.add("b", OTHER, 1.0)
    contributions.mark_held("a", "b", 1.0)
    assert contributions.selected(["b"]) == {"b": SHARE}
    assert "twice" in contributions.refused["b"]
    assert not contributions.add("z", SHARE, 1.0)
    assert "not asked" in contributions.refused["z"]


@pytest.mark.parametrize(("by", "counts"), [("a", True), ("b", True), ("c", False)])
def test_a_holder_or_the_contributor_itself_rejects(by: str, counts: bool) -> None:
    contributions = tracker("a")
    contributions.add("a", SHARE, 0.5)
    contributions.mark_held("a", "a", 0.5)
    contributions.refuse(by, "b", "not finite")
    assert contributions.outcome(1.0).closed is counts
    assert contributions.refused == ({"b": "not finite"} if counts else {})


def test_a_contribution_that_counts_cannot_be_rejected() -> None:
    contributions = tracker("a", names=("b",))
    contributions.add("b", SHARE, 1.0)
    contributions.mark_held("a", "b", 1.0)
    contributions.refuse("b", "b", "I changed my mind")
    assert contributions.outcome(1.0).contributed == ("b",)
    assert contributions.refused == {}


def test_reasons_are_recorded_once() -> None:
    contributions = tracker("a", names=("a", "b", "c"))
    contributions.refuse("a", "a", "not finite")
    contributions.refused["b"] = "stale: it contributed to round 1"
    contributions.quorum.lose("b", "lost: silent")
    contributions.quorum.lose("c", "declined: no data")
    assert record_reasons(contributions.outcome(1.0), contributions.refused) == {
        "b": "lost: silent",
        "c": "declined: no data",
    }


def test_a_majority_agrees() -> None:
    votes = VoteTracker(2)
    assert votes.agreed() is None
    votes.cast("a", blob("0"))
    votes.cast("a", blob("0"))
    assert votes.agreed() is None, "a member votes once"
    votes.cast("b", blob("1"))
    assert votes.agreed() is None
    votes.cast("c", blob("1"))
    assert votes.agreed() == blob("1")
    assert votes.dissenters(blob("1")) == ("a",)
