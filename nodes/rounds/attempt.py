"""One attempt at a round as its lead sees it, what it says of it, and why it may fail.

Refuses to know how its messages travel and when it is closed (`nodes.rounds.coordinator`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.rounds.conversion import to_commit
from protocol.messages.rounds import BlobRef, RoundClose, RoundCommit, RoundOpen, RoundPlanMessage, RoundsAborted
from protocol.quorum import QuorumOutcome, QuorumTracker
from protocol.rounds import ContributionTracker, VoteTracker, record_reasons, round_message


class RoundImpossible(Exception):
    """A programme cannot go on, and who could not take part."""

    def __init__(self, reason: str, lost: Mapping[str, str]) -> None:
        super().__init__(reason)
        self.lost = lost


class AttemptFailed(Exception):
    """An attempt cannot be completed, since somebody who is needed is gone; another one can."""


@dataclass
class RoundAttempt:
    """An attempt that is under way, as its lead sees it.

    Attributes:
        opened: how it was opened.
        lead: who leads it.
        began: when it was opened, in seconds of the event loop's clock.
        tally: the contributions.
        ballot: what was computed.
        voting: whose votes are waited for, and until when.
        adopting: the same for who has taken over the outcome.
        adverts: of a secure round: whose keys are waited for.
        sharing: of a secure round: who is to hold everybody's shares.
        sharers: of a secure round: who lives of those who hold everybody's shares.
        needed: how many of them it takes to open the sum.
        reduced: who has announced its shard of the aggregate.
        closed: how it was closed; None before.
        broken: whether it cannot be completed.
        changed: set when anything has come.
    """

    opened: RoundOpen
    lead: str
    began: float
    contribution_tracker: ContributionTracker
    vote_tracker: VoteTracker
    voting: QuorumTracker
    adopting: QuorumTracker
    key_advertisements: QuorumTracker
    sharing: QuorumTracker | None = None
    sharers: set[str] = field(default_factory=set)
    needed: int = 0
    reduced: set[str] = field(default_factory=set)
    closed: RoundClose | None = None
    broken: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def lose(self, name: str, reason: str) -> None:
        """Nobody waits for a member any more."""
        self.withdraw(name, reason)
        self.voting.lose(name, reason)
        self.adopting.lose(name, reason)
        if name in self.sharers:
            self.sharers.remove(name)
            self.broken |= len(self.sharers) < self.needed

    def withdraw(self, name: str, reason: str) -> None:
        """Nobody waits for a member's contribution any more."""
        self.contribution_tracker.quorum.lose(name, reason)
        self.key_advertisements.lose(name, reason)
        if self.sharing is not None and self.sharing.lose(name, reason):
            self.broken = True  # the others wait for its shares

    def depart(self, name: str, reason: str) -> None:
        """A member is gone. A keeper of shards is missed, unless it is one of a secure round whose shard is out.

        To begin a secure round again after shares were revealed would open it for other survivors; who has fetched a
        shard hands it on instead.
        """
        self.lose(name, reason)
        if len(self.contribution_tracker.holders) > 1 and name in self.contribution_tracker.holders:
            self.broken |= not (self.needed and name in self.reduced)

    def close(self, outcome: QuorumOutcome, now: float) -> RoundClose:
        """Closes it with those who have contributed; from now on votes are waited for."""
        shares = self.contribution_tracker.selected(outcome.contributed)
        if len(self.contribution_tracker.holders) > 1:  # everybody has its shard by now
            shares = {name: share.model_copy(update={"blobs": ()}) for name, share in shares.items()}
        self.voting.opened = now
        self.closed = round_message(
            RoundClose,
            self.opened,
            contributions=shares,
            late=outcome.late,
            lost=_truncated(record_reasons(outcome, self.contribution_tracker.refused)),
            refused=_truncated(self.contribution_tracker.refused),
            seconds=now - self.began,
        )
        return self.closed

    def commit(self, left: BlobRef) -> RoundCommit:
        """The record of the round that has left this; told is also what has been refused since it was closed."""
        assert self.closed is not None  # noqa: S101 - a round is closed before anybody votes
        dissent = dict.fromkeys(self.vote_tracker.dissenters(left), "it computed another aggregate")
        record = to_commit(self.opened, self.closed, self.lead, left)
        return record.model_copy(update={"refused": _truncated({**dissent, **self.contribution_tracker.refused})})


def abort_message(term: int, plan: RoundPlanMessage, error: RoundImpossible) -> RoundsAborted:
    """What is said when a programme cannot go on."""
    return RoundsAborted(term=term, key=plan.key, lost=_truncated(error.lost), reason=str(error)[:500])


def _truncated(reasons: Mapping[str, str]) -> dict[str, str]:
    return {name: reason[:500] for name, reason in reasons.items()}
