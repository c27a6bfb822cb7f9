"""One attempt, led without a network: what the leader publishes after which messages, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from protocol.certificates import vote_for
from protocol.machines.attempt import RoundAttempt
from protocol.machines.attempt_values import (
    AttemptFailed,
    AttemptTerms,
    Committed,
    Phase,
    RoundImpossible,
    StaleContribution,
)
from protocol.machines.events import Begin, CheckShard, Departed, Heard, Publish, ShardChecked
from protocol.machines.machine import Instruction, InvalidTransition, MachineEvent, Tick, replay
from protocol.machines.signatory import Signatory
from protocol.machines.statements import AttemptStatements
from protocol.messages import (
    ContributionAvailable,
    ContributionReceipt,
    FalseShard,
    Message,
    ModelAdopted,
    RoundDecline,
    RoundOpen,
    RoundVote,
    ShardReduced,
)
from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage
from protocol.messages.rounds import RoundClose, RoundCommit, RoundMessage
from protocol.quorum import QuorumPolicy
from protocol.rounds import round_message

Lead = Callable[..., "Leader"]
NAMES = ("a", "b", "c")
OUTCOME, OTHER = BlobRef(digest="1" * 64, size=1), BlobRef(digest="2" * 64, size=1)


THIRD = RoundCommit(
    model="m", number=3, term=0, attempt=9, key="j", index=1, rounds=2, leader="c", base="0" * 64, outcome=OTHER,
    transcript="1" * 64, weights={"c": 1.0}, values={}, late=(), lost={}, refused={}, seconds=1.0,
)  # fmt: skip


class Leader:
    """Member a, which leads an attempt of three.

    Attributes:
        published: all that it has sent.
        end: how the attempt has ended; None before.
    """

    def __init__(
        self,
        signatory: Signatory,
        recovered: RoundCommit | None = None,
        given: BlobRef | None = None,
        *,
        begin: bool = True,
        **terms: Any,
    ) -> None:
        plan = RoundPlanMessage(
            key="k", requester="g", model="m", task="t", rounds=1 if given else 2, federation="{}", options={},
            given=given,
        )  # fmt: skip
        refused, quorum = terms.get("refused", {}), terms.pop("quorum", 1)
        contributors = () if given or recovered else tuple(name for name in NAMES if name not in refused)
        opened = RoundOpen(
            model="m", number=4, term=1, attempt=3, index=1, plan=plan, records={"m": THIRD}, base=OTHER, members=NAMES,
            contributors=contributors, recovered=recovered,
        )  # fmt: skip
        settings = AttemptTerms(QuorumPolicy(quorum=quorum), configured=NAMES, alive=NAMES, **terms)
        self.statements, self.now = AttemptStatements(signatory, opened, "a"), 0.0
        self.attempt = RoundAttempt("a", opened, settings, signatory, self.now)
        self.published: list[Message] = []
        self.end: Instruction | None = None
        if begin:
            self.handle(Begin())

    def handle(self, event: MachineEvent) -> list[str]:
        """Something happens; returns the kinds of all that was published."""
        self.now += 0.1
        for instruction in self.attempt.handle(event, self.now):
            if isinstance(instruction, Publish):
                self.published.append(instruction.message)
            else:
                assert self.end is None
                self.end = instruction
        return [message.kind for message in self.published]

    def receive(self, kind: type[Any], names: Sequence[str] = NAMES, **fields: Any) -> list[str]:
        """These members send a message; returns the kinds of all that was published."""
        for name in names:
            self.handle(Heard(name, round_message(kind, self.attempt.opened, **fields)))
        return [message.kind for message in self.published]

    def vote(self, names: Sequence[str] = NAMES) -> list[str]:
        """These members vote for an outcome."""
        close, statements = self.published[-1], self.statements
        recovered = self.attempt.opened.recovered
        if isinstance(close, RoundClose):
            cast = vote_for(statements.record(close, OUTCOME))
        else:
            assert recovered is not None
            cast = vote_for(statements.recovered(recovered, OUTCOME))
        return self.receive(RoundVote, names, **cast.model_dump(exclude=set(RoundMessage.model_fields)))

    def contribute(self, names: Sequence[str] = NAMES) -> list[str]:
        """These members contribute; returns the kinds of all that was published."""
        contribution = ContributionRef(weight=2.0, blobs=(OTHER,), values={"x": 1.0})
        opening = self.statements.opening
        return self.receive(ContributionAvailable, names, opening=opening, contribution=contribution)

    def close(self) -> RoundClose:
        """The close that was published."""
        (close,) = (message for message in self.published if isinstance(message, RoundClose))
        return close

    def committed(self) -> RoundCommit:
        """The record of the round, which is over."""
        assert isinstance(self.end, Committed)
        return self.end.record


@pytest.fixture
def lead(make_signatory: Callable[..., Signatory]) -> Lead:
    """Begins an attempt at member a."""
    return partial(Leader, make_signatory("a"))


def test_an_attempt_closes_is_voted_on_and_committed(lead: Lead) -> None:
    leader = lead()
    assert leader.contribute(["a", "b"]) == ["round_open"]
    assert leader.contribute(["c"]) == ["round_open", "round_close"]
    assert leader.vote(["a"]) == ["round_open", "round_close"]
    assert leader.vote(["b", "c"])[-1] == "round_commit"
    assert leader.end is None, "it waits until all have adopted the outcome"
    leader.receive(ModelAdopted)
    commit = leader.committed()
    assert (commit.outcome, commit.weights, commit.leader) == (OUTCOME, dict.fromkeys(NAMES, 2.0), "a")


def test_only_its_contributor_rejects_a_contribution_before_the_close(lead: Lead) -> None:
    leader = lead()
    leader.receive(ContributionReceipt, ["b"], contributor="c", refused="no")
    leader.receive(ContributionReceipt, ["b"], contributor="b", refused="not finite")
    assert leader.contribute(["a", "c"]) == ["round_open", "round_close"]
    assert (set(leader.close().contributions), leader.close().refused) == ({"a", "c"}, {"b": "not finite"})


def test_in_a_secure_round_who_sends_false_keys_or_shares_is_left_out_before_the_close(lead: Lead) -> None:
    leader = lead(threshold=2)
    leader.receive(ContributionReceipt, ["z"], contributor="c", refused="no")
    assert leader.end is None
    leader.receive(ContributionReceipt, ["b"], contributor="c", refused="a share is false")
    assert leader.end == AttemptFailed("b rejects what c has sent: a share is false")
    assert (leader.attempt.refused, leader.attempt.unable) == ({"c": "a share is false"}, {})


def test_a_contribution_that_a_member_rejects_ends_the_attempt_and_is_left_out_of_the_next(lead: Lead) -> None:
    leader = lead()
    leader.contribute()
    leader.receive(ContributionReceipt, ["z"], contributor="a", refused="x")
    leader.receive(ContributionReceipt, ["b"], contributor="c", refused="not finite")
    assert leader.end == AttemptFailed("b rejects what c has sent: not finite")
    assert leader.attempt.refused == {"c": "not finite"}
    again = lead(refused=leader.attempt.refused)
    assert again.contribute(["a", "b"]) == ["round_open", "round_close"]
    close = again.close()
    assert (set(close.contributions), close.refused, close.lost) == ({"a", "b"}, {"c": "not finite"}, {})
    again.receive(ContributionReceipt, ["b"], contributor="c", refused="its share is false")
    assert isinstance(again.end, AttemptFailed)
    assert again.attempt.unable == {"c": "its share is false"}


@pytest.mark.parametrize("reduced", [(), ("a",), ("a", "b")])
def test_in_a_mesh_a_contributor_is_needed_until_all_others_have_reduced(lead: Lead, reduced: tuple[str]) -> None:
    leader = lead()
    leader.contribute()
    leader.receive(ShardReduced, reduced, transcript="1" * 64, shard=None)
    leader.handle(Departed("c", "lost: broken"))
    assert leader.end == (AttemptFailed("c lost: broken") if len(reduced) < 2 else None)


def test_a_member_that_cannot_vote_is_not_waited_for_and_remembered(lead: Lead) -> None:
    leader = lead()
    leader.receive(RoundDecline, ["c"], reason="no model", can_vote=False)
    assert leader.attempt.unable == {"c": "declined: no model"}
    leader.contribute(["a", "b"])
    leader.vote(["a", "b"])
    leader.receive(ModelAdopted, ["a", "b"])
    assert leader.committed().lost == {"c": "declined: no model"}


@pytest.mark.parametrize("sharded", [True, False])
def test_only_a_keeper_of_shards_is_needed(lead: Lead, *, sharded: bool) -> None:
    leader = lead(sharded=sharded)
    leader.handle(Departed("c", "lost: broken"))
    assert leader.end == (AttemptFailed("c lost: broken") if sharded else None)
    if not sharded:
        assert leader.contribute(["a", "b"]) == ["round_open", "round_close"]


def test_a_keeper_whose_shard_is_available_is_needed_nevertheless_without_masks(lead: Lead) -> None:
    leader = lead(sharded=True)
    leader.receive(ShardReduced, ["c"], transcript="1" * 64, shard=OTHER)
    leader.handle(Departed("c", "lost: broken"))
    assert isinstance(leader.end, AttemptFailed)


@pytest.mark.parametrize(("is_false", "unable"), [(True, {"b"}), (False, {"c"}), (None, set())])
def test_an_accusation_is_checked_and_one_of_the_two_is_left_out(
    lead: Lead, *, is_false: bool | None, unable: set[str]
) -> None:
    leader = lead(sharded=True)
    reduced = round_message(ShardReduced, leader.attempt.opened, transcript="1" * 64, shard=OTHER)
    accusation = round_message(FalseShard, leader.attempt.opened, owner="b", reduced=reduced, chunk=4)
    leader.handle(Heard("c", accusation))
    assert leader.end is None, "nothing is reduced before the close"
    leader.contribute()
    leader.handle(Heard("c", accusation))
    assert leader.end == CheckShard("c", accusation)
    leader.end = None
    leader.handle(Heard("c", accusation))
    assert leader.end is None, "each accuser is heard once"
    leader.handle(ShardChecked("c", accusation, is_false))
    assert leader.end == AttemptFailed("c calls the share of b false")
    assert leader.attempt.unable.keys() == unable


def test_too_few_contributions_fail_without_a_majority_and_are_impossible_with_one(lead: Lead) -> None:
    leader = lead(quorum=3)
    leader.receive(RoundDecline, ["b"], reason="no", can_vote=True)
    leader.contribute(["a", "c"])
    assert leader.end == RoundImpossible("2 of 3 needed contributed", {"b": "declined: no"})
    leader = lead(quorum=3)
    leader.contribute(["c"])
    leader.receive(RoundDecline, ["a"], reason="no", can_vote=True)
    for name in "cb":
        leader.handle(Departed(name, "lost"))
    assert leader.end == AttemptFailed("a declined: no, b lost")


def test_a_model_that_is_given_needs_no_contributions(lead: Lead) -> None:
    leader = lead(given=OTHER)
    assert leader.vote(["a", "b"]) == ["round_open", "round_close"]
    leader.vote(["c"])
    leader.receive(ModelAdopted)
    assert leader.committed().weights == {}


def test_a_recovered_outcome_is_committed_in_the_new_term(lead: Lead) -> None:
    old = THIRD.model_copy(update={"number": 4, "key": "k", "outcome": OUTCOME})
    leader = lead(recovered=old)
    assert leader.vote() == ["round_open", "round_commit"]
    leader.receive(ModelAdopted)
    votes = dict.fromkeys(NAMES, b"")
    assert leader.committed() == old.model_copy(update={"term": 1, "attempt": 3, "votes": votes})


def test_contributions_to_earlier_rounds_are_named(lead: Lead) -> None:
    leader = lead()
    leader.handle(StaleContribution("b", 3))
    leader.handle(StaleContribution("c", 4))
    leader.contribute()
    assert leader.close().refused == {"b": "stale: it contributed to round 3"}


def test_a_message_concerns_one_attempt(lead: Lead) -> None:
    leader = lead()
    declined = round_message(RoundDecline, leader.attempt.opened, reason="no", can_vote=True)
    assert leader.attempt.concerns(declined)
    for changes in ({"term": 2}, {"attempt": 2}, {"model": "n"}):
        assert not leader.attempt.concerns(declined.model_copy(update=changes))


def test_the_hard_limit_closes_every_phase(lead: Lead) -> None:
    leader = lead()
    leader.contribute(["a", "b"])
    leader.now = leader.attempt.deadline
    assert leader.handle(Tick()) == ["round_open", "round_close"]
    assert leader.close().late == ("c",)
    leader.vote(["a", "b"])
    leader.now = leader.attempt.deadline
    assert leader.handle(Tick())[-1] == "round_commit"
    leader.now = leader.attempt.deadline
    leader.handle(Tick())
    assert isinstance(leader.end, Committed)


def test_a_log_replays_an_attempt(lead: Lead) -> None:
    leader = lead()
    leader.contribute(["a", "b"])
    leader.receive(RoundDecline, ["c"], reason="no", can_vote=True)
    leader.vote(["a", "b"])
    leader.handle(Departed("c", "lost"))
    leader.receive(ModelAdopted, ["a", "b"])
    log = list(leader.attempt.log)
    assert [entry.state for entry in log][-1] is Phase.COMMITTED
    again = lead(begin=False).attempt
    instructions = [each for some in replay(again, log) for each in some]
    assert [each.message for each in instructions if isinstance(each, Publish)] == leader.published
    assert instructions[-1] == leader.end
    assert list(again.log) == log


def test_no_other_transition_than_those_of_the_table(lead: Lead) -> None:
    leader = lead()
    leader.contribute()
    with pytest.raises(
        InvalidTransition, match=r"RoundAttempt cannot go from voting to sharing \(after Begin"
    ) as error:
        leader.attempt._go(Phase.SHARING)
    assert len(error.value.log) == 4
