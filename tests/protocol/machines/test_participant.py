"""One member's part in an attempt, without a network: what it does after which events, and how it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.machines.events import Begin, CheckShard, Heard, KeepStory, Publish, ShardChecked, Tell
from protocol.machines.machine import Instruction, InvalidTransition, MachineEvent, Tick, replay
from protocol.machines.participant import RoundParticipant
from protocol.machines.participant_values import (
    FINISH,
    GRACE,
    Adopt,
    BasePrepared,
    Compute,
    Contribute,
    ContributionCounted,
    ContributionDeclined,
    ContributionInvalid,
    ContributionMade,
    FalseShardFound,
    LeaderLost,
    Left,
    MemberRejected,
    OutcomeComputed,
    PartFailed,
    PersistVote,
    PrepareBase,
    RoundAdopted,
    Stage,
    VotePersisted,
)
from protocol.machines.signatory import Signatory
from protocol.messages import ContributionAvailable, ContributionReceipt, RoundDecline
from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage
from protocol.messages.rounds import FalseShard, RoundClose, RoundCommit, RoundOpen, ShardReduced
from protocol.rounds import round_message

OUTCOME, OTHER = BlobRef(digest="1" * 64, size=1), BlobRef(digest="2" * 64, size=1)
CONTRIBUTION = ContributionRef(weight=2.0, blobs=(OTHER,), values={})
PLAN = RoundPlanMessage(key="k", requester="g", model="m", task="t", rounds=2, federation="{}", options={})
OPENED = RoundOpen(
    model="m", number=1, term=1, attempt=1, index=1, plan=PLAN, records={}, base=OTHER, members=("a", "b", "c"),
    contributors=("a", "b"),
)  # fmt: skip
MakeMember = Callable[..., "Member"]


class Member:
    """A member of an attempt that a leads."""

    def __init__(
        self,
        signatories: dict[str, Signatory],
        name: str,
        opened: RoundOpen = OPENED,
        quorum: int = 1,
        *,
        is_secure: bool = False,
    ) -> None:
        self.signatories, self.name, self.opened = signatories, name, opened
        self.machine = RoundParticipant(name, opened, "a", signatories[name], quorum, is_secure=is_secure)
        self.now = 0.0
        self.handle(Begin())

    def handle(self, *events: MachineEvent) -> list[Instruction]:
        """Something happens; returns what is to be done then."""
        return [each for event in events for each in self.machine.handle(event, self.now)]

    def close(self, *names: str) -> RoundClose:
        """The leader closes the round with true contributions of these members."""
        offers = {
            name: round_message(
                ContributionAvailable, self.opened, opening=self.machine.statements.opening, contribution=CONTRIBUTION
            )
            for name in names
        }
        signatures = {name: self.signatories[name].signed(offer).signature for name, offer in offers.items()}
        return round_message(
            RoundClose, self.opened, contributions=dict.fromkeys(names, CONTRIBUTION), signatures=signatures,
            late=(), lost={}, refused={}, seconds=1.0,
        )  # fmt: skip

    def reduced(self, name: str) -> Heard:
        """A member says that it has reduced its share."""
        said = round_message(ShardReduced, self.opened, transcript="1" * 64, shard=OTHER)
        return Heard(name, self.signatories[name].signed(said))

    def commit(self, outcome: BlobRef) -> RoundCommit:
        """The leader commits the round."""
        return self.machine.statements.record(self.close("a", "b"), outcome)


@pytest.fixture
def member(make_signatory: Callable[..., Signatory]) -> MakeMember:
    """Makes a member whose group has keys."""
    signatories = {name: make_signatory(name, keyed=True) for name in "abc"}
    return lambda *given, **how: Member(signatories, *given, **how)


def messages(instructions: list[Instruction]) -> list[Any]:
    return [each.message for each in instructions if isinstance(each, Publish | Tell)]


@pytest.mark.parametrize("same", [True, False])
def test_a_part_contributes_votes_and_adopts(member: MakeMember, *, same: bool) -> None:
    b = member("b")
    assert b.machine.log[0].state is Stage.PREPARING
    assert b.handle(BasePrepared()) == [Contribute()]
    (offer,) = messages(b.handle(ContributionMade(CONTRIBUTION)))
    assert (offer.opening, offer.contribution) == (b.machine.statements.opening, CONTRIBUTION)
    close = b.close("a", "b")
    assert b.handle(Heard("a", close)) == [ContributionCounted(), Compute(close)]
    (persist,) = b.handle(OutcomeComputed(OUTCOME))
    assert isinstance(persist, PersistVote)
    assert (persist.record.outcome, set(persist.record.votes)) == (OUTCOME, {"b"})
    (vote,) = messages(b.handle(VotePersisted()))
    assert vote.signature == persist.record.votes["b"]
    commit = b.commit(OUTCOME if same else OTHER)
    assert b.handle(Heard("a", commit))[-1] == Adopt(commit, own=same)
    assert [message.kind for message in messages(b.handle(RoundAdopted()))] == ["model_adopted"]
    assert b.machine.is_over


REDUCED = round_message(ShardReduced, OPENED, transcript="1" * 64, shard=OTHER)


def test_who_finds_a_false_share_says_so_to_all_and_casts_no_vote(member: MakeMember) -> None:
    b = member("b")
    b.handle(BasePrepared(), Heard("a", b.close("a", "b")))
    published, kept = b.handle(FalseShardFound("c", REDUCED, 4))
    assert published == Publish(round_message(FalseShard, OPENED, owner="c", reduced=REDUCED, chunk=4))
    assert isinstance(kept, KeepStory)
    assert b.machine.state is Stage.ABANDONED


def test_a_leader_that_is_accused_is_judged_by_every_other_member(member: MakeMember) -> None:
    accusation = round_message(FalseShard, OPENED, owner="a", reduced=REDUCED, chunk=0)
    c = member("c")
    c.handle(BasePrepared())
    assert c.handle(Heard("b", accusation)) == []
    c.handle(Heard("a", c.close("a", "b")))
    other = round_message(FalseShard, OPENED, owner="b", reduced=REDUCED, chunk=0)
    assert c.handle(Heard("a", other)) == [], "the leader judges it"
    assert c.handle(Heard("b", accusation)) == [CheckShard("b", accusation)]
    c.handle(ShardChecked("b", accusation, is_false=False))
    assert c.machine.state is Stage.REDUCING
    (declined,) = messages(c.handle(ShardChecked("b", accusation, is_false=True)))
    assert (declined.reason, declined.can_vote) == ("a, which leads, has reduced its share falsely", False)
    a = member("a")
    a.handle(BasePrepared(), Heard("a", a.close("a", "b")))
    assert a.handle(Heard("b", accusation)) == []


def test_what_the_leader_says_early_waits(member: MakeMember) -> None:
    b = member("b")
    close, commit = b.close("a", "b"), b.commit(OUTCOME)
    assert b.handle(Heard("a", close), Heard("a", commit)) == []
    assert b.handle(BasePrepared())[-1] == Compute(close)
    b.handle(OutcomeComputed(OUTCOME))
    assert b.handle(VotePersisted())[-1] == Adopt(commit, own=True)


def test_only_the_leader_closes_and_commits_and_only_once(member: MakeMember) -> None:
    b = member("b")
    b.handle(BasePrepared())
    assert b.handle(Heard("c", b.close("a")), Heard("c", b.commit(OUTCOME))) == []
    b.handle(Heard("a", b.close("a", "b")))
    assert b.handle(Heard("a", b.close("a"))) == []
    assert b.machine.state is Stage.REDUCING


def test_a_contribution_that_nobody_made_ends_the_part(member: MakeMember) -> None:
    c = member("c")
    c.handle(BasePrepared())
    heavier = CONTRIBUTION.model_copy(update={"weight": 9.0})
    forged = c.close("a", "b").model_copy(update={"contributions": dict.fromkeys("ab", heavier)})
    (declined,) = messages(c.handle(Heard("a", forged)))
    assert declined.reason == "a has closed the round with a contribution that a did not offer"
    assert (declined.can_vote, c.machine.state) == (False, Stage.ABANDONED)


def test_nobody_votes_for_a_round_that_was_closed_below_the_quorum_of_its_plan(member: MakeMember) -> None:
    for name in ("b", "c"):
        each = member(name, quorum=3)
        each.handle(BasePrepared())
        (declined,) = messages(each.handle(Heard("a", each.close("a", "b"))))
        assert isinstance(declined, RoundDecline)
        assert "closed the round with 2 contributions, and the quorum of its plan is 3" in declined.reason


@pytest.mark.parametrize(
    ("event", "kind", "can_vote"),
    [
        (ContributionInvalid("not finite"), ContributionReceipt, None),
        (ContributionDeclined("no budget"), RoundDecline, True),
        (PartFailed("no model"), RoundDecline, False),
        (MemberRejected("a", "not finite"), ContributionReceipt, None),
    ],
)
def test_the_leader_is_told_what_is_wrong(
    member: MakeMember, event: MachineEvent, kind: type, can_vote: bool | None
) -> None:
    b = member("b")
    b.handle(BasePrepared())
    tell, *more = b.handle(event)
    assert isinstance(tell, Tell)
    assert more == [KeepStory(b.machine)] * b.machine.is_over
    assert (tell.name, type(tell.message), getattr(tell.message, "can_vote", None)) == ("a", kind, can_vote)
    assert b.machine.is_over == isinstance(event, PartFailed | MemberRejected)


def test_who_gives_nothing_is_reported_after_a_while(member: MakeMember) -> None:
    b = member("b")
    b.handle(BasePrepared(), Heard("a", b.close("a", "b")))
    assert b.handle(MemberRejected("a", "silent", gone=True)) == []
    assert (b.machine.state, b.machine.deadline) == (Stage.LEAVING, GRACE)
    assert not b.machine.holds_base
    b.now = GRACE
    assert messages(b.handle(Tick()))[0].contributor == "a"
    assert b.machine.is_over


def test_a_part_is_left_unless_its_round_is_committed(member: MakeMember) -> None:
    b = member("b")
    b.handle(BasePrepared(), Left())
    assert b.machine.state is Stage.ABANDONED
    b = member("b")
    b.handle(BasePrepared(), Heard("a", b.close("a", "b")), OutcomeComputed(OUTCOME), VotePersisted())
    b.handle(Heard("a", b.commit(OUTCOME)), Left())
    assert b.machine.state is Stage.ADOPTING


def test_a_secure_round_that_all_have_reduced_is_finished_without_its_leader(member: MakeMember) -> None:
    b = member("b", is_secure=True)
    b.handle(BasePrepared(), Heard("a", b.close("a", "b")), *map(b.reduced, "abc"), LeaderLost(), Left())
    assert (b.machine.state, b.machine.finishes, b.machine.deadline) == (Stage.REDUCING, True, FINISH)
    b.handle(OutcomeComputed(OUTCOME))
    assert [message.kind for message in messages(b.handle(VotePersisted()))] == ["round_vote"]
    assert b.machine.state is Stage.ABANDONED, "who leads next learns of its vote"


def test_and_given_up_where_that_takes_too_long(member: MakeMember) -> None:
    b = member("b", is_secure=True)
    b.handle(BasePrepared(), Heard("a", b.close("a", "b")), *map(b.reduced, "abc"), LeaderLost())
    b.now = FINISH
    b.handle(Tick())
    assert b.machine.state is Stage.ABANDONED


@pytest.mark.parametrize(("is_secure", "reduced"), [(False, "abc"), (True, "bc"), (True, "")])
def test_any_other_attempt_is_left_with_its_leader(member: MakeMember, *, is_secure: bool, reduced: str) -> None:
    b = member("b", is_secure=is_secure)
    b.handle(BasePrepared(), Heard("a", b.close("a", "b")), *map(b.reduced, reduced), LeaderLost())
    assert b.machine.state is Stage.ABANDONED


def test_a_share_that_its_member_has_not_signed_is_not_reduced(member: MakeMember) -> None:
    b = member("b", is_secure=True)
    forged = Heard("a", b.reduced("c").message)
    b.handle(BasePrepared(), Heard("a", b.close("a", "b")), *map(b.reduced, "bc"), forged, LeaderLost())
    assert b.machine.state is Stage.ABANDONED


@pytest.mark.parametrize("closed", [False, True])
def test_a_commit_alone_keeps_nobody_in_a_round(member: MakeMember, *, closed: bool) -> None:
    """The leader may keep the close, or die before it is sent again: whoever waits for it is free to do the next."""
    b = member("b")
    b.handle(BasePrepared(), Heard("a", b.commit(OUTCOME)))
    if closed:
        b.handle(Heard("a", b.close("a", "b")))
    b.handle(Left())
    assert b.machine.state is Stage.ABANDONED
    assert not b.machine.holds_base, "it catches up with the outcome"


def test_a_recovered_outcome_needs_no_close(member: MakeMember) -> None:
    record = member("b").commit(OUTCOME)
    b = member("b", OPENED.model_copy(update={"contributors": (), "recovered": record, "attempt": 2}))
    assert b.handle(BasePrepared()) == [Compute(None)]
    (persist,) = b.handle(OutcomeComputed(OUTCOME))
    assert isinstance(persist, PersistVote)
    assert (persist.record.attempt, persist.record.outcome) == (2, OUTCOME)


def test_a_log_replays_a_part_and_no_work_is_done_twice(member: MakeMember) -> None:
    b = member("b")
    b.handle(BasePrepared(), ContributionMade(CONTRIBUTION), Heard("a", b.close("a", "b")), OutcomeComputed(OUTCOME))
    again = RoundParticipant("b", OPENED, "a", b.signatories["b"], 1)
    assert replay(again, b.machine.log)[0] == [PrepareBase()]
    assert again.record == b.machine.record
    with pytest.raises(InvalidTransition):
        b.handle(OutcomeComputed(OUTCOME))
