"""When a contribution counts, which are rejected, and which outcome a majority has voted for."""

from __future__ import annotations

from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage
from protocol.messages.rounds import RoundClose, RoundDecline, RoundOpen, RoundVote
from protocol.quorum import DeadlineEstimator, QuorumPolicy, QuorumTracker
from protocol.rounds import (
    ContributionTracker,
    VoteTracker,
    attempt_of,
    commit_of,
    contribution_in,
    record_reasons,
    reopened,
    round_message,
)

POLICY = QuorumPolicy(hard_limit=100.0)


def blob(letter: str) -> BlobRef:
    return BlobRef(digest=letter * 64, size=1)


def vote(letter: str, signature: bytes = b"") -> RoundVote:
    return RoundVote(
        model="m", number=1, term=7, attempt=2, base="2" * 64, outcome=blob(letter), transcript="3" * 64,
        record="4" * 64, signature=signature,
    )  # fmt: skip


OPENED = RoundOpen(
    model="m", number=1, term=7, attempt=2, index=1, records={}, base=blob("2"), members=("a",), contributors=("a",),
    plan=RoundPlanMessage(key="k", requester="g", model="m", task="w", rounds=1, federation="{}", options={}),
)  # fmt: skip
SHARE = ContributionRef(weight=1.0, blobs=(blob("0"),), values={})
OTHER = ContributionRef(weight=2.0, blobs=(blob("1"),), values={})


def tracker(*names: str) -> ContributionTracker:
    return ContributionTracker(QuorumTracker.open(names, 0.0, POLICY, DeadlineEstimator(POLICY)))


def test_a_round_message_names_its_attempt() -> None:
    declined = round_message(RoundDecline, OPENED, reason="no", can_vote=True)
    assert (declined.model, declined.number, declined.term, declined.attempt) == ("m", 1, 7, 2)
    assert attempt_of(declined) == attempt_of(vote("0")) == attempt_of(OPENED) == (7, 2)


def test_a_record_names_what_its_round_started_from_and_counts() -> None:
    close = round_message(
        RoundClose, OPENED, contributions={"a": SHARE}, signatures={"a": b"a" * 64}, late=(), lost={}, refused={},
        seconds=1.0,
    )  # fmt: skip
    record = commit_of(OPENED, close, "a", blob("9"), "5" * 64)
    assert (record.base, record.outcome, record.transcript, record.votes) == ("2" * 64, blob("9"), "5" * 64, {})
    said = contribution_in(OPENED, close, "6" * 64, "a")
    assert (said.contribution, said.signature, said.opening) == (SHARE, b"a" * 64, "6" * 64)
    again = reopened(record.model_copy(update={"votes": {"a": b""}, "term": 3}), OPENED)
    assert again == record


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
    votes.cast("a", vote("0"))
    votes.cast("a", vote("0"))
    assert votes.agreed() is None, "a member votes once"
    votes.cast("b", vote("1", b"b" * 64))
    assert votes.agreed() is None
    votes.cast("c", vote("1", b"c" * 64))
    assert votes.agreed() == vote("1")
    assert votes.dissenters(vote("1")) == ("a",)
    assert votes.certificate(vote("1")) == {"b": b"b" * 64, "c": b"c" * 64}
