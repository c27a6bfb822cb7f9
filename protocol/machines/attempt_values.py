"""The phases of an attempt at a round, the terms on which it is led, and how it may end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from protocol.machines.machine import Instruction, MachineEvent
from protocol.messages.rounds import RoundCommit
from protocol.quorum import QuorumPolicy


class Phase(StrEnum):
    """What the leader waits for."""

    OPENED = "opened"
    ADVERTISING = "advertising"  # everybody's keys
    SHARING = "sharing"  # everybody to hold everybody's shares
    COLLECTING = "collecting"
    VOTING = "voting"
    ADOPTING = "adopting"
    COMMITTED = "committed"
    FAILED = "failed"
    IMPOSSIBLE = "impossible"


PHASES: Mapping[str, frozenset[str]] = {
    Phase.OPENED: frozenset({Phase.ADVERTISING, Phase.COLLECTING, Phase.VOTING}),
    Phase.ADVERTISING: frozenset({Phase.SHARING, Phase.FAILED, Phase.IMPOSSIBLE}),
    Phase.SHARING: frozenset({Phase.COLLECTING, Phase.FAILED}),
    Phase.COLLECTING: frozenset({Phase.VOTING, Phase.FAILED, Phase.IMPOSSIBLE}),
    Phase.VOTING: frozenset({Phase.ADOPTING, Phase.FAILED, Phase.IMPOSSIBLE}),
    Phase.ADOPTING: frozenset({Phase.COMMITTED}),
    **dict.fromkeys((Phase.COMMITTED, Phase.FAILED, Phase.IMPOSSIBLE), frozenset()),
}
"""What may follow each, a final one none."""


@dataclass(frozen=True)
class StaleContribution(MachineEvent):
    """A member has contributed to an earlier round of the model."""

    name: str
    number: int


@dataclass(frozen=True)
class Committed(Instruction):
    """The round is closed, and every member that is alive has adopted its outcome."""

    record: RoundCommit


@dataclass(frozen=True)
class AttemptFailed(Instruction):
    """A member that is needed is gone; another attempt may succeed."""

    reason: str


@dataclass(frozen=True)
class RoundImpossible(Instruction):
    """Too few contributed, or they do not agree on the outcome; `lost` names who is missing, with the reason."""

    reason: str
    lost: Mapping[str, str]


@dataclass(frozen=True)
class AttemptTerms:
    """On which terms an attempt is led.

    Attributes:
        policy: when a round goes on without everybody.
        deadline: seconds that contributions usually take; counts where the policy has learned deadlines.
        enough: how many contributions close the round at once; None waits for all.
        sharded: whether every member reduces a share of the result.
        threshold: how many members it takes to unmask the sum; 0 where it is not masked.
        configured: all configured members.
        alive: those that are alive, this one among them.
        unable: members that could take no part in earlier attempts at this round, with the reason.
        refused: members whose contributions to earlier attempts were rejected, with the reason.
        absent: configured members that are not alive, with the reason.
    """

    policy: QuorumPolicy
    configured: tuple[str, ...]
    alive: tuple[str, ...]
    deadline: float = inf
    enough: int | None = None
    sharded: bool = False
    threshold: int = 0
    unable: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
