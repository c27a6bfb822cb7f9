"""When a contribution has arrived, who is refused, and what a majority has agreed on."""

from __future__ import annotations

import pytest

from protocol.messages.rounds import BlobRef, ContributionRef, RoundClose, RoundOpen, RoundPlanMessage, RoundVote
from protocol.quorum import DeadlineEstimator, QuorumPolicy, QuorumTracker
from protocol.rounds import ContributionTracker, VoteTracker, attempt_of, record_reasons, round_message

POLICY = QuorumPolicy(hard_limit=100.0)


def piece(letter: str) -> BlobRef:
    return BlobRef(digest=letter * 64, size=1)


SHARE = ContributionRef(weight=1.0, blobs=(piece("0"),), values={})
OTHER = ContributionRef(weight=2.0, blobs=(piece("1"),), values={})


def tally(*keepers: str, names: tuple[str, ...] = ("a", "b")) -> ContributionTracker:
    return ContributionTracker(QuorumTracker.open(names, 0.0, POLICY, DeadlineEstimator(POLICY)), frozenset(keepers))


def test_what_is_about_one_attempt_says_so() -> None:
    plan = RoundPlanMessage(key="k", requester="g", model="m", task="w", rounds=1, federation="{}", options={})
    opened = RoundOpen(
        model="m", number=3, term=7, attempt=2, index=1, plan=plan, versions={}, members=("a",), contributors=("a",)
    )
    vote = round_message(RoundVote, opened, outcome=piece("0"))
    assert (vote.model, vote.number, vote.term, vote.attempt) == ("m", 3, 7, 2)
    close = round_message(RoundClose, opened, contributions={"a": SHARE}, late=(), lost={}, refused={}, seconds=1.0)
    assert attempt_of(close) == attempt_of(vote) == attempt_of(opened) == (7, 2)


@pytest.mark.parametrize("keepers", [("a",), ("a", "b", "c")])
@pytest.mark.parametrize("offered_first", [True, False])
def test_a_contribution_has_arrived_once_every_keeper_holds_it(keepers: tuple[str, ...], offered_first: bool) -> None:
    ledger = tally(*keepers, names=("b",))
    if offered_first:
        assert ledger.add("b", SHARE, 1.0)
    for keeper in keepers:
        assert not ledger.outcome(2.0).closed
        ledger.mark_held(keeper, "b", 2.0)
    if not offered_first:
        assert not ledger.outcome(2.0).closed
        assert ledger.add("b", SHARE, 3.0)
    assert ledger.outcome(3.0).contributed == ("b",)
    assert ledger.selected(["b"]) == {"b": SHARE}


def test_only_keepers_can_hold() -> None:
    ledger = tally("a", names=("b",))
    ledger.add("b", SHARE, 1.0)
    ledger.mark_held("c", "b", 1.0)
    assert not ledger.outcome(1.0).closed


def test_the_first_contribution_counts_and_a_second_is_named() -> None:
    ledger = tally("a")
    assert ledger.add("b", SHARE, 1.0)
    assert not ledger.add("b", OTHER, 1.0)
    ledger.mark_held("a", "b", 1.0)
    assert ledger.selected(["b"]) == {"b": SHARE}
    assert "twice" in ledger.refused["b"]
    assert not ledger.add("z", SHARE, 1.0)
    assert "not asked" in ledger.refused["z"]


@pytest.mark.parametrize(("by", "counts"), [("a", True), ("b", True), ("c", False)])
def test_a_keeper_or_the_contributor_itself_refuses(by: str, counts: bool) -> None:
    ledger = tally("a")
    ledger.add("a", SHARE, 0.5)
    ledger.mark_held("a", "a", 0.5)
    ledger.refuse(by, "b", "not finite")
    assert ledger.outcome(1.0).closed is counts
    assert ledger.refused == ({"b": "not finite"} if counts else {})


def test_what_has_arrived_cannot_be_refused_any_more() -> None:
    ledger = tally("a", names=("b",))
    ledger.add("b", SHARE, 1.0)
    ledger.mark_held("a", "b", 1.0)
    ledger.refuse("b", "b", "I changed my mind")
    assert ledger.outcome(1.0).contributed == ("b",)
    assert ledger.refused == {}


def test_reasons_are_told_once() -> None:
    ledger = tally("a", names=("a", "b", "c"))
    ledger.refuse("a", "a", "not finite")
    ledger.refused["b"] = "stale: it contributed to round 1"
    ledger.quorum.lose("b", "lost: silent")
    ledger.quorum.lose("c", "declined: no data")
    assert record_reasons(ledger.outcome(1.0), ledger.refused) == {"b": "lost: silent", "c": "declined: no data"}


def test_a_majority_agrees() -> None:
    ballot = VoteTracker(2)
    assert ballot.agreed() is None
    ballot.cast("a", piece("0"))
    ballot.cast("a", piece("0"))
    assert ballot.agreed() is None, "a member votes once"
    ballot.cast("b", piece("1"))
    assert ballot.agreed() is None
    ballot.cast("c", piece("1"))
    assert ballot.agreed() == piece("1")
    assert ballot.dissenters(piece("1")) == ("a",)
