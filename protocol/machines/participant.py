"""One member's part in one attempt at a round, from its opening to its commit.

    opened -> preparing -> contributing -> reducing -> persisting -> voted -> adopting -> adopted

A vote is on disk before it is cast: should the leader die, the next one learns of it and recovers the outcome. A
contribution that is not valid, or cannot be had, is reported to the leader, which opens the round again without it.
A sum that may be unmasked already must not be repeated for others: where the leader of a secure round dies once all
have reduced their share, the members go on to their votes without it, and the next leader recovers its outcome.
Knows nothing of who leads and when a round closes (`protocol.machines.coordinator`).
"""

from __future__ import annotations

from typing import Any

from protocol.machines.accusations import Accusations
from protocol.machines.events import Begin, Heard, KeepStory, Publish, ShardChecked, Tell, Warn
from protocol.machines.machine import Machine, MachineEvent, Tick
from protocol.machines.participant_values import (
    FINISH,
    GRACE,
    STAGES,
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
from protocol.machines.sizes import record_objection
from protocol.machines.statements import AttemptStatements
from protocol.messages.round_values import ContributionRef
from protocol.messages.rounds import (
    ContributionAvailable,
    ContributionReceipt,
    FalseShard,
    ModelAdopted,
    RoundClose,
    RoundCommit,
    RoundDecline,
    RoundOpen,
    RoundVote,
    ShardReduced,
)
from protocol.rounds import round_message


class RoundParticipant(Machine[Stage]):
    """One member's part in one attempt at a round.

    Args:
        me: this member.
        opened: the attempt.
        leader: leads it.
        signatory: signs what this member says, and checks what others have signed.
        quorum: fewest contributions that the plan lets a leader close a round with; a member whose own configuration
            asks for more contributes nothing.
        is_secure: whether the outcome is unmasked from a sum.

    Attributes:
        began: what it was made with, without the signatory.
        opened: the attempt.
        leader: leads it.
        signatory: signs what this member says, checks what others have signed, and remembers both.
        statements: what is signed in this attempt.
        commit: the record of the round, once the leader has committed it.
        record: the one that this member has voted for.
        finishes: whether it goes on to its vote without the leader.
    """

    transitions = STAGES

    def __init__(
        self, me: str, opened: RoundOpen, leader: str, signatory: Signatory, quorum: int, *, is_secure: bool = False
    ) -> None:
        super().__init__(Stage.OPENED)
        self.began = {"me": me, "opened": opened, "leader": leader, "quorum": quorum, "is_secure": is_secure}
        self.opened, self.leader, self.signatory = opened, leader, signatory.recorded()
        self.statements = AttemptStatements(self.signatory, opened, leader)
        self.commit: RoundCommit | None = None
        self.record: RoundCommit | None = None
        self.finishes = False
        self._me, self._quorum, self._is_secure = me, quorum, is_secure
        self._reduced: set[str] = set()  # members that need no contribution any more
        self._close: RoundClose | None = None
        self._vote: RoundVote | None = None
        self._report: ContributionReceipt | None = None
        self._accusations = Accusations(me, {leader} - {me})  # whom nobody else judges

    @property
    def holds_base(self) -> bool:
        """Whether this member is in the round: it has the base, so that it adopts the outcome without catching up."""
        return self.state not in {Stage.OPENED, Stage.PREPARING, Stage.LEAVING, Stage.ABANDONED}

    @property
    def adopts(self) -> bool:
        """Whether nothing of the round is left but to adopt its committed outcome, for which nobody else is needed."""
        return self.commit is not None and self.state in {Stage.PERSISTING, Stage.VOTED, Stage.ADOPTING, Stage.ADOPTED}

    @property
    def holders(self) -> tuple[str, ...]:
        """Who can be asked for states."""
        return (self.leader, *self.opened.members)

    @property
    def _can_finish(self) -> bool:
        """Whether its vote needs no leader: all have reduced their share, and some may have unmasked the sum."""
        under_way = self.state in {Stage.REDUCING, Stage.PERSISTING} and self._close is not None
        return self._is_secure and under_way and self._reduced >= set(self.opened.members)

    def _handle(self, event: MachineEvent, now: float) -> None:
        match event:
            case Begin():
                self._go(Stage.PREPARING)
                self._instruct(PrepareBase())
            case Heard(sender, RoundClose() as close) if sender == self.leader:
                self._close = self._close or close
            case Heard(sender, RoundCommit() as commit) if sender == self.leader:
                self.commit = self.commit or commit
            case Heard(sender, FalseShard() as accusation) if self._close is not None:
                self._instruct(*self._accusations.hear(sender, accusation))
            case Heard(sender, ShardReduced() as reduced) if self._is_secure:
                self._reduced |= {sender} if self.statements.has_reduced(sender, reduced) else set()
            case LeaderLost() if self._can_finish:
                self.finishes, self.deadline = True, now + FINISH
            case Left() | LeaderLost() if not self.adopts and not self.finishes:
                self._go(Stage.ABANDONED)
            case Tick() if self.finishes and now >= self.deadline:
                self._go(Stage.ABANDONED)
            case Tick() if self._report is not None and now >= self.deadline:
                self._go(Stage.ABANDONED)
                self._instruct(Tell(self.leader, self._report), KeepStory(self))
            case _:
                self._work_done(event, now)
        self._advance()

    def _work_done(self, event: MachineEvent, now: float) -> None:
        """What was instructed is done, or could not be."""
        match event:
            case BasePrepared():
                self._go(Stage.CONTRIBUTING)
                if self._me in self.opened.contributors:
                    self._instruct(Contribute())
            case ContributionMade(contribution, leaves):
                self._offer(contribution, leaves)
            case ContributionInvalid(reason):
                self._instruct(Tell(self.leader, self._receipt(self._me, reason)))
            case ContributionDeclined(reason):
                self._decline(reason, can_vote=True)
            case OutcomeComputed():
                self._persist(event)
            case VotePersisted():
                assert self._vote is not None  # noqa: S101 - it was persisted
                self._go(Stage.VOTED)
                self._instruct(Publish(self._vote))
            case RoundAdopted():
                self._go(Stage.ADOPTED)
                self._instruct(Tell(self.leader, round_message(ModelAdopted, self.opened)))
            case MemberRejected():
                self._reject(event, now)
            case FalseShardFound(owner, reduced, chunk):
                self._go(Stage.ABANDONED)
                accusation = round_message(FalseShard, self.opened, owner=owner, reduced=reduced, chunk=chunk)
                self._instruct(Publish(accusation), KeepStory(self))
            case ShardChecked(is_false=True) if not self.commit:
                self._fail(f"{self.leader}, which leads, has reduced its share falsely")
            case PartFailed(reason):
                self._fail(reason)

    def _advance(self) -> None:
        """Goes on with what the leader has said meanwhile."""
        if self.state is Stage.CONTRIBUTING:
            if self.opened.recovered is not None:
                self._go(Stage.REDUCING)
                self._instruct(Compute(None))
            elif self._close is not None:
                self._reduce(self._close)
        if self.state is Stage.VOTED and self.finishes:
            self._go(Stage.ABANDONED)
        if self.state is Stage.VOTED and self.commit is not None and self.record is not None:
            own = self.commit.outcome == self.record.outcome
            if not own:
                name = f"round {self.opened.number} of {self.opened.model}"
                self._instruct(Warn(f"{name} has another outcome here than at the majority"))
            self._go(Stage.ADOPTING)
            self._instruct(Adopt(self.commit, own))

    def _reduce(self, close: RoundClose) -> None:
        """The contributions to the aggregate are final: it is computed, if it is what this member admits."""
        if unfounded := self.statements.unfounded(close):
            reason = f"{self.leader} has closed the round with a contribution that {unfounded[0]} did not offer"
            self._fail(reason)
            return
        if self.opened.contributors and len(close.contributions) < self._quorum:
            count = f"{len(close.contributions)} contributions"
            self._fail(f"{self.leader} has closed the round with {count}, and the quorum of its plan is {self._quorum}")
            return
        record = self.statements.record(close, self.opened.base)
        if too_large := record_objection(record, len(self.signatory.members)):
            self._fail(f"{self.leader} has closed the round with {too_large}")
            return
        if self._me in close.contributions:
            self._instruct(ContributionCounted())
        self._go(Stage.REDUCING)
        self._instruct(Compute(close))

    def _persist(self, computed: OutcomeComputed) -> None:
        """Votes for the record of the round with an outcome, once that is on disk."""
        if self.opened.recovered is not None:
            record = self.statements.recovered(self.opened.recovered, computed.outcome)
        else:
            assert self._close is not None  # noqa: S101 - the outcome was computed from it
            record = self.statements.record(self._close, computed.outcome)
        self._vote = self.statements.vote(record)
        self.record = record.model_copy(update={"votes": {self._me: self._vote.signature}})
        self._go(Stage.PERSISTING)
        self._instruct(PersistVote(self.record))

    def _offer(self, contribution: ContributionRef, leaves: bytes) -> None:
        opening = self.statements.opening
        offer = round_message(
            ContributionAvailable, self.opened, opening=opening, contribution=contribution, leaves=leaves
        )
        self._instruct(Publish(self.signatory.signed(offer)))

    def _fail(self, reason: str) -> None:
        """This member cannot go on, and says so."""
        self._go(Stage.ABANDONED)
        self._decline(reason, can_vote=False)
        self._instruct(KeepStory(self))

    def _reject(self, rejected: MemberRejected, now: float) -> None:
        """Leaves the attempt and tells the leader why; by then it may have noticed itself that somebody is gone."""
        receipt = self._receipt(rejected.member, rejected.reason)
        if rejected.gone:
            self._go(Stage.LEAVING)
            self._report, self.deadline = receipt, now + GRACE
        else:
            self._go(Stage.ABANDONED)
            self._instruct(Tell(self.leader, receipt), KeepStory(self))

    def _receipt(self, name: str, refused: str) -> ContributionReceipt:
        return round_message(ContributionReceipt, self.opened, contributor=name, refused=refused[:500])

    def _decline(self, reason: str, *, can_vote: bool) -> None:
        declined: Any = round_message(RoundDecline, self.opened, reason=reason[:500], can_vote=can_vote)
        self._instruct(Tell(self.leader, declined))
