"""When a round closes, with which contributions, and with which outcome: the state that its leader keeps.

A contribution counts once it is announced. Which peers are waited for, and until when, is decided as for queries
(`protocol.quorum`). The outcome is decided by votes: a majority of the configured members must have computed
the same digest.

Pure: knows no network, no states and no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from protocol.messages.round_values import BlobRef, ContributionRef, ModelVersion
from protocol.messages.rounds import ContributionAvailable, RoundClose, RoundCommit, RoundMessage, RoundOpen, RoundVote
from protocol.quorum import QuorumOutcome, QuorumTracker

M = TypeVar("M", bound=RoundMessage)


def attempt_of(message: RoundMessage) -> tuple[int, int]:
    """The attempt of a message as (term, attempt): unique in the run, a later one is larger."""
    return message.term, message.attempt


def round_message(kind: type[M], of: RoundMessage, **fields: Any) -> M:
    """A message of the same attempt at the same round as `of`."""
    return kind(model=of.model, number=of.number, term=of.term, attempt=of.attempt, **fields)


def contribution_in(opened: RoundOpen, close: RoundClose, opening: str, name: str) -> ContributionAvailable:
    """What a contributor must have said, if a close is true."""
    contribution, signature = close.contributions[name], close.signatures.get(name, b"")
    return round_message(ContributionAvailable, opened, opening=opening, contribution=contribution, signature=signature)


def reopened(record: RoundCommit, opened: RoundOpen) -> RoundCommit:
    """The record of an earlier attempt as that of a later one, without votes."""
    return record.model_copy(update={"term": opened.term, "attempt": opened.attempt, "votes": {}, "remarks": {}})


def version_after(commit: RoundCommit) -> ModelVersion:
    """The version of a model after a round."""
    return ModelVersion(number=commit.number, outcome=commit.outcome, key=commit.key, index=commit.index)


def commit_of(opened: RoundOpen, close: RoundClose, leader: str, outcome: BlobRef, transcript: str) -> RoundCommit:
    """The record of a round without votes, which every member that has computed its outcome can write."""
    return round_message(
        RoundCommit,
        opened,
        key=opened.plan.key,
        index=opened.index,
        rounds=opened.plan.rounds,
        leader=leader,
        base=opened.base.digest,
        outcome=outcome,
        transcript=transcript,
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

    Attributes:
        quorum: the peers that are waited for, and until when.
        contributions: those that can be fetched, by name.
        refused: the contributors whose contribution was rejected, with the reason.
    """

    quorum: QuorumTracker
    contributions: dict[str, ContributionRef] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, contribution: ContributionRef, now: float) -> bool:
        """A contribution can be fetched; False for one that is unexpected, a duplicate or given up."""
        if name not in self.quorum.expected:
            self.refused.setdefault(name, "it was not asked to contribute to this round")
            return False
        if name in self.contributions:
            self.refused.setdefault(name, "it contributed twice: the first one counts")
            return False
        self.contributions[name] = contribution
        self.quorum.arrive(name, now)
        return True

    def refuse(self, name: str, reason: str) -> None:
        """A contribution is rejected; one that counts already is not."""
        if self.quorum.lose(name, _refused(reason)):
            self.refused[name] = reason

    def outcome(self, now: float) -> QuorumOutcome:
        """The state of the round at this time."""
        return self.quorum.outcome(now)

    def selected(self, contributed: Iterable[str]) -> dict[str, ContributionRef]:
        """The contributions of these contributors."""
        return {name: self.contributions[name] for name in contributed}


@dataclass
class VoteTracker:
    """The votes of the members for a record.

    Attributes:
        majority: how many of the configured members must agree.
        votes: what each has voted for; its first vote counts.
    """

    majority: int
    votes: dict[str, RoundVote] = field(default_factory=dict)

    def cast(self, name: str, vote: RoundVote) -> None:
        """A member votes."""
        self.votes.setdefault(name, vote)

    def agreed(self) -> RoundVote | None:
        """The vote, without signature, that a majority has cast; None if there is none."""
        for vote, count in Counter(map(unsigned, self.votes.values())).most_common(1):
            if count >= self.majority:
                return vote
        return None

    def certificate(self, agreed: RoundVote) -> dict[str, bytes]:
        """The signatures of the members that have cast a vote, by name."""
        return {name: vote.signature for name, vote in sorted(self.votes.items()) if unsigned(vote) == agreed}

    def dissenters(self, agreed: RoundVote) -> tuple[str, ...]:
        """The members that have voted otherwise, sorted."""
        return tuple(sorted(name for name, vote in self.votes.items() if unsigned(vote) != agreed))


def unsigned(vote: RoundVote) -> RoundVote:
    """A vote without its signature: two members that vote alike have the same."""
    return vote.model_copy(update={"signature": b""})


def record_reasons(outcome: QuorumOutcome, refused: Mapping[str, str]) -> dict[str, str]:
    """The `lost` of a round's record: without those whose contribution was rejected, who are its `refused`."""
    return {name: reason for name, reason in outcome.lost.items() if reason != _refused(refused.get(name, ""))}


def _refused(reason: str) -> str:
    return f"refused: {reason}"
