"""When a round closes, with whom, and what it leaves: the ledger that its lead keeps.

A contribution has arrived once everybody who must hold a part of it says so: in a mesh the lead, who can hand it on
should its contributor die, and in a sharded round every member, each its shard. Who is waited for, and until when,
is decided as for queries (`protocol.quorum`). What the round leaves is decided by votes: a majority of the configured
members must have computed the same digest.

Pure: knows no network, no states and no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from protocol.messages.rounds import (
    BlobRef,
    ContributionRef,
    ModelVersion,
    RoundClose,
    RoundCommit,
    RoundMessage,
    RoundOpen,
)
from protocol.quorum import QuorumOutcome, QuorumTracker

M = TypeVar("M", bound=RoundMessage)


def attempt_of(message: RoundMessage) -> tuple[int, int]:
    """Which attempt a message belongs to, as (term, attempt): one of its kind in the run, a later one is larger."""
    return message.term, message.attempt


def round_message(kind: type[M], of: RoundMessage, **fields: Any) -> M:
    """A message about the same attempt at the same round."""
    return kind(model=of.model, number=of.number, term=of.term, attempt=of.attempt, **fields)


def version_after(commit: RoundCommit) -> ModelVersion:
    """The version of a model after a round."""
    return ModelVersion(number=commit.number, outcome=commit.outcome, key=commit.key, index=commit.index)


def commit_of(opened: RoundOpen, close: RoundClose, leader: str, outcome: BlobRef) -> RoundCommit:
    """The record of a round, which every member that has computed its outcome can write."""
    return round_message(
        RoundCommit,
        opened,
        key=opened.plan.key,
        index=opened.index,
        rounds=opened.plan.rounds,
        leader=leader,
        outcome=outcome,
        weights={name: contribution.weight for name, contribution in close.contributions.items()},
        values={name: contribution.values for name, contribution in close.contributions.items()},
        late=close.late,
        lost=close.lost,
        refused=close.refused,
        seconds=close.seconds,
    )


@dataclass
class ContributionTracker:
    """The contributions to one attempt.

    Args:
        quorum: who is waited for, and until when.
        holders: who must hold a part of every contribution.
    """

    quorum: QuorumTracker
    holders: frozenset[str]
    contributions: dict[str, ContributionRef] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    _held: dict[str, set[str]] = field(default_factory=dict)

    def add(self, name: str, share: ContributionRef, now: float) -> bool:
        """A contribution can be fetched; False for one that is not expected, comes twice or was given up."""
        if name not in self.quorum.expected:
            self.refused.setdefault(name, "it was not asked to contribute to this round")
            return False
        if name in self.contributions:
            self.refused.setdefault(name, "it contributed twice: the first one counts")
            return False
        self.contributions[name] = share
        self._arrive(name, now)
        return True

    def mark_held(self, keeper: str, name: str, now: float) -> None:
        """A keeper holds its part of a contribution."""
        if keeper in self.holders:
            self._held.setdefault(name, set()).add(keeper)
            self._arrive(name, now)

    def refuse(self, by: str, name: str, reason: str) -> None:
        """A keeper, or its contributor itself, has found that a contribution cannot be used."""
        if (by in self.holders or by == name) and self.quorum.lose(name, _refused(reason)):
            self.refused[name] = reason

    def outcome(self, now: float) -> QuorumOutcome:
        """How the round stands."""
        return self.quorum.outcome(now)

    def selected(self, contributed: Iterable[str]) -> dict[str, ContributionRef]:
        """The contributions of those who contributed."""
        return {name: self.contributions[name] for name in contributed}

    def _arrive(self, name: str, now: float) -> None:
        if name in self.contributions and self._held.get(name, set()) >= self.holders:
            self.quorum.arrive(name, now)


@dataclass
class VoteTracker:
    """What the members have computed.

    Args:
        majority: how many of the configured members must agree.
    """

    majority: int
    votes: dict[str, BlobRef] = field(default_factory=dict)

    def cast(self, name: str, outcome: BlobRef) -> None:
        """A member has computed this; a member votes once."""
        self.votes.setdefault(name, outcome)

    def agreed(self) -> BlobRef | None:
        """What a majority has computed."""
        for outcome, count in Counter(self.votes.values()).most_common(1):
            if count >= self.majority:
                return outcome
        return None

    def dissenters(self, outcome: BlobRef) -> tuple[str, ...]:
        """Who has computed something else, sorted."""
        return tuple(sorted(name for name, other in self.votes.items() if other != outcome))


def record_reasons(outcome: QuorumOutcome, refused: Mapping[str, str]) -> dict[str, str]:
    """Who was lost for a round, with the reason; those whose contribution was refused are named apart."""
    return {name: reason for name, reason in outcome.lost.items() if reason != _refused(refused.get(name, ""))}


def _refused(reason: str) -> str:
    return f"refused: {reason}"
