"""What a member does in an attempt at a round, what it is told, and what it has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from protocol.machines.machine import Instruction, MachineEvent
from protocol.messages.round_values import BlobRef, ContributionRef
from protocol.messages.rounds import RoundClose, RoundCommit, ShardReduced

GRACE = 5.0
"""Seconds after which a member reports that another one gives nothing; who is gone, the leader notices by then."""

FINISH = 30.0
"""Seconds in which members finish a secure sum without its leader; then they give it up."""


class Stage(StrEnum):
    """What a member does in an attempt."""

    OPENED = "opened"
    PREPARING = "preparing"  # the state that the round starts from
    CONTRIBUTING = "contributing"  # until the round is closed
    REDUCING = "reducing"
    PERSISTING = "persisting its vote"
    VOTED = "voted"
    ADOPTING = "adopting"
    ADOPTED = "adopted"
    LEAVING = "leaving"  # it reports that another member gives nothing, after a while
    ABANDONED = "abandoned"


STAGES: Mapping[str, frozenset[str]] = {
    Stage.OPENED: frozenset({Stage.PREPARING, Stage.ABANDONED}),
    Stage.PREPARING: frozenset({Stage.CONTRIBUTING, Stage.LEAVING, Stage.ABANDONED}),
    Stage.CONTRIBUTING: frozenset({Stage.REDUCING, Stage.LEAVING, Stage.ABANDONED}),
    Stage.REDUCING: frozenset({Stage.PERSISTING, Stage.LEAVING, Stage.ABANDONED}),
    Stage.PERSISTING: frozenset({Stage.VOTED, Stage.ABANDONED}),
    Stage.VOTED: frozenset({Stage.ADOPTING, Stage.ABANDONED}),
    Stage.ADOPTING: frozenset({Stage.ADOPTED, Stage.ABANDONED}),
    Stage.LEAVING: frozenset({Stage.ABANDONED}),
    **dict.fromkeys((Stage.ADOPTED, Stage.ABANDONED), frozenset()),
}
"""What may follow each, a final one none."""


@dataclass(frozen=True)
class BasePrepared(MachineEvent):
    """The state that the round starts from is here."""


@dataclass(frozen=True)
class ContributionMade(MachineEvent):
    """This member's contribution is served; the leaves of its hash tree are told where they are few."""

    contribution: ContributionRef
    leaves: bytes = b""


@dataclass(frozen=True)
class ContributionInvalid(MachineEvent):
    """This member's contribution would be rejected."""

    reason: str


@dataclass(frozen=True)
class ContributionDeclined(MachineEvent):
    """This member makes no contribution; it can vote nevertheless."""

    reason: str


@dataclass(frozen=True)
class OutcomeComputed(MachineEvent):
    """The outcome of the round is here."""

    outcome: BlobRef


@dataclass(frozen=True)
class VotePersisted(MachineEvent):
    """This member's vote is on the disk."""


@dataclass(frozen=True)
class RoundAdopted(MachineEvent):
    """This member has adopted the outcome of the round."""


@dataclass(frozen=True)
class MemberRejected(MachineEvent):
    """What another member has sent is not valid, or cannot be had (`gone`)."""

    member: str
    reason: str
    gone: bool = False


@dataclass(frozen=True)
class FalseShardFound(MachineEvent):
    """This member has reduced a chunk of another one's share again, and it differs."""

    owner: str
    reduced: ShardReduced
    chunk: int


@dataclass(frozen=True)
class PartFailed(MachineEvent):
    """This member cannot go on."""

    reason: str


@dataclass(frozen=True)
class Left(MachineEvent):
    """This member has something later to do."""


@dataclass(frozen=True)
class LeaderLost(MachineEvent):
    """A later term has begun: nobody leads this attempt any more."""


@dataclass(frozen=True)
class PrepareBase(Instruction):
    """Bring this member's models up to the opening, then say `BasePrepared`."""


@dataclass(frozen=True)
class Contribute(Instruction):
    """Make this member's contribution and serve it, then say what has become of it."""


@dataclass(frozen=True)
class ContributionCounted(Instruction):
    """The round counts this member's contribution."""


@dataclass(frozen=True)
class Compute(Instruction):
    """Compute the outcome of the round, or fetch it where it is given or recovered; then say `OutcomeComputed`."""

    close: RoundClose | None


@dataclass(frozen=True)
class PersistVote(Instruction):
    """Write the vote for a record to the disk, then say `VotePersisted`."""

    record: RoundCommit


@dataclass(frozen=True)
class Adopt(Instruction):
    """Adopt the outcome of the round, this member's own or the one that the majority has; then say `RoundAdopted`."""

    record: RoundCommit
    own: bool
