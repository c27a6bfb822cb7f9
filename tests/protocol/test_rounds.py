"""When a contribution counts, which are rejected, and which outcome a majority has voted for."""

from __future__ import annotations

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


def tracker(*names: str) -> ContributionTracker:
    return ContributionTracker(QuorumTracker.open(names, 0.0, POLICY, DeadlineEstimator(POLICY)))


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


def test_a_contribution_counts_once_it_is_announced() -> None:
    contributions = tracker("b")
    assert not contributions.outcome(1.0).closed
    assert contributions.add("b", SHARE, 2.0)
    assert contributions.outcome(3.0).contributed == ("b",)
    assert contributions.selected(["b"]) == {"b": SHARE}


def test_the_first_contribution_counts_and_a_second_is_named() -> None:
    contributions = tracker("a", "b")
    assert contributions.add("b", SHARE, 1.0)
    assert not contributions.add("b", OTHER, 1.0)
    assert contributions.selected(["b"]) == {"b": SHARE}
    assert "twice" in contributions.refused["b"]
    assert not contributions.add("z", SHARE, 1.0)
    assert "not asked" in contributions.refused["z"]


def test_a_contribution_that_is_rejected_is_not_waited_for() -> None:
    contributions = tracker("a", "b")
    contributions.add("a", SHARE, 0.5)
    contributions.refuse("b", "not finite")
    assert contributions.outcome(1.0).closed
    assert contributions.refused == {"b": "not finite"}


def test_a_contribution_that_counts_cannot_be_rejected() -> None:
    contributions = tracker("b")
    contributions.add("b", SHARE, 1.0)
    contributions.refuse("b", "I changed my mind")
    assert contributions.outcome(1.0).contributed == ("b",)
    assert contributions.refused == {}


def test_reasons_are_recorded_once() -> None:
    contributions = tracker("a", "b", "c")
    contributions.refuse("a", "not finite")
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
