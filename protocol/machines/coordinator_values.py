"""What a leader of rounds waits for, is told, and has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from protocol.machines.machine import Instruction, MachineEvent
from protocol.messages.election import AcceptedVote
from protocol.messages.round_values import ModelVersion, RoundPlanMessage
from protocol.messages.rounds import RoundCommit

MAX_ATTEMPTS = 100
"""Attempts at one round, most of which end with a death; a round that fails more often will not succeed."""

PROMISE_TIMEOUT = 5.0
"""Seconds for which a new leader waits for the promises of all members that are alive, where a round was left open; and
before it tries again to recover one."""

ANNOUNCE_INTERVAL = 10.0
"""Seconds after which a leader without anything to do says again what is held: who has lost a message for good catches
up then."""

FIRST_ROUND_WAIT = 30.0
"""Seconds for which a leader's first round waits for the configured members that have not been linked yet."""


class Duty(StrEnum):
    """What a leader does."""

    ELECTED = "elected"
    ENDING = "ending its own part"
    COMPLETING = "waiting for the promises of all"  # where a round was left open
    REACHING = "reaching the latest outcomes"
    RECALLING = "asking for missing records"
    PREPARING = "preparing a plan"
    GATHERING = "waiting for the configured members"
    WAITING = "waiting for a majority"
    HOLDING = "holding an attempt"
    ADOPTING = "adopting an outcome"
    IDLE = "idle"


DUTIES: Mapping[str, frozenset[str]] = {
    Duty.ELECTED: frozenset({Duty.ENDING}),
    Duty.ENDING: frozenset({Duty.COMPLETING, Duty.REACHING, Duty.RECALLING}),
    Duty.COMPLETING: frozenset({Duty.REACHING, Duty.RECALLING}),
    Duty.REACHING: frozenset({Duty.REACHING, Duty.RECALLING}),
    Duty.RECALLING: frozenset({Duty.PREPARING, Duty.IDLE}),
    Duty.PREPARING: frozenset({Duty.GATHERING, Duty.WAITING, Duty.PREPARING, Duty.IDLE}),
    Duty.GATHERING: frozenset({Duty.WAITING}),
    Duty.WAITING: frozenset({Duty.HOLDING, Duty.PREPARING, Duty.IDLE, Duty.COMPLETING}),
    Duty.HOLDING: frozenset({Duty.WAITING, Duty.ADOPTING, Duty.PREPARING, Duty.IDLE, Duty.COMPLETING}),
    Duty.ADOPTING: frozenset({Duty.WAITING, Duty.PREPARING, Duty.IDLE}),
    Duty.IDLE: frozenset({Duty.PREPARING, Duty.IDLE}),
}
"""What may follow each, a final one none."""


class PlanTerms(Protocol):
    """What a plan's federation means for its leader.

    Attributes:
        quorum: fewest contributions of a round.
        enough: how many contributions close a round at once; None waits for all.
    """

    @property
    def quorum(self) -> int: ...  # noqa: D102
    @property
    def enough(self) -> int | None: ...  # noqa: D102

    def sharded(self, members: int) -> bool:
        """Whether a round of so many members is reduced in shards."""
        ...

    def threshold(self, contributors: int) -> int:
        """How many of so many contributors it takes to unmask their sum; 0 where it is not masked."""
        ...

    def drawn(self, members: tuple[str, ...], model: str, number: int) -> tuple[str, ...]:
        """Those of the members that are to contribute to a round."""
        ...


@dataclass(frozen=True)
class StoreView:
    """What this member has of rounds, as far as its leading depends on it.

    Attributes:
        records: by model, of the latest round.
        version: of the plan's model.
        done: how many rounds of the plan have closed.
        lost: the members that the last round went on without.
    """

    records: Mapping[str, RoundCommit]
    version: ModelVersion
    done: int
    lost: frozenset[str]


@dataclass(frozen=True)
class PartEnded(MachineEvent):
    """This member has ended its own part in the latest round."""


@dataclass(frozen=True)
class Promised(MachineEvent):
    """A member has promised this member's term."""


@dataclass(frozen=True)
class Reached(MachineEvent):
    """This member has reached an outcome."""


@dataclass(frozen=True)
class Recalled(MachineEvent):
    """This member has asked for the records that it missed; `records` are the latest."""

    records: Mapping[str, RoundCommit]


@dataclass(frozen=True)
class Prepared(MachineEvent):
    """A plan can be carried out, on these terms."""

    terms: PlanTerms
    view: StoreView


@dataclass(frozen=True)
class NotPrepared(MachineEvent):
    """A plan cannot be carried out, and why."""

    reason: str


@dataclass(frozen=True)
class OutcomeAdopted(MachineEvent):
    """This member, too, has adopted the outcome of the round that it has committed."""

    view: StoreView


@dataclass(frozen=True)
class Requested(MachineEvent):
    """A plan waits."""


@dataclass(frozen=True)
class PlanDropped(MachineEvent):
    """The present plan has led to an unforeseen error: it is held no longer."""


@dataclass(frozen=True)
class EndPart(Instruction):
    """Wait until this member's own part has ended, then say `PartEnded`."""


@dataclass(frozen=True)
class Reach(Instruction):
    """Bring a model to the outcome of a round, from one of these holders, then say `Reached`."""

    record: RoundCommit
    holders: tuple[str, ...]


@dataclass(frozen=True)
class Recall(Instruction):
    """Ask for the records that are missing of every model, then say `Recalled`."""


@dataclass(frozen=True)
class PreparePlan(Instruction):
    """Check a plan and have its model at hand, then say `Prepared` or `NotPrepared`."""

    plan: RoundPlanMessage


@dataclass(frozen=True)
class AdoptOutcome(Instruction):
    """End this member's own part and have the outcome of a round, then say `OutcomeAdopted`."""

    record: RoundCommit


@dataclass
class Job:
    """A plan, and what is known of the round of it that is to be held.

    Attributes:
        plan: the plan.
        recovered: the vote for what an earlier leader may have committed this very round with.
        attempts: at this round.
        unable: members that can take no part in it, with the reason.
        refused: members whose contributions to it were rejected, with the reason.
        commit: its record.
    """

    plan: RoundPlanMessage
    recovered: AcceptedVote | None = None
    index: int = 0
    attempts: int = 0
    unable: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    commit: RoundCommit | None = None

    @property
    def recovered_record(self) -> RoundCommit | None:
        """That of the vote."""
        return self.recovered.record if self.recovered else None

    @property
    def next_round(self) -> Job:
        """The next round of the plan."""
        return Job(self.plan, index=self.index + 1)
