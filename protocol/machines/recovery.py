"""What an earlier leader may have committed: votes that were left open, which a new leader settles first.

Whoever is late with its vote, or cannot have the outcome now, may have voted for it before: only promises can show that
too few did. So a vote stays open until it is committed or they show that. Knows nothing of how an attempt is held
(`protocol.machines.coordinator`).
"""

from __future__ import annotations

from collections import deque

from protocol.certificates import possibly_committed
from protocol.election import Election
from protocol.machines.signatory import Signatory
from protocol.messages.election import AcceptedVote
from protocol.messages.round_values import ModelVersion


class OpenVotes:
    """The votes that a leader has yet to settle, the latest first.

    Args:
        election: what was promised to the leader.
        signatory: checks what the members have signed.
    """

    def __init__(self, election: Election, signatory: Signatory) -> None:
        self._election, self._signatory = election, signatory
        self._votes = deque[AcceptedVote]()
        self._warned = ""

    def __bool__(self) -> bool:
        return bool(self._votes)

    def learn(self) -> None:
        """All that are open, by the promises there are now."""
        self._votes = deque(self._election.open_votes())

    def next(self) -> AcceptedVote:
        """The next one, which is no longer among them."""
        return self._votes.popleft()

    def may_be_committed(self, vote: AcceptedVote, version: ModelVersion) -> bool:
        """Whether an earlier leader may have committed the round after this version with the outcome of a vote.

        For a committed record a majority has voted, and those that have promised this term have said so: what too few
        can have voted for is held anew.
        """
        votes, election = len(self._signatory.valid_votes(vote.record)), self._election
        possible = possibly_committed(votes, election.silent, election.majority)
        return version.number + 1 == vote.record.number and possible

    def keep(self, vote: AcceptedVote, reason: str) -> str:
        """It could not be recovered, and is tried again; returns what to warn of, the same reason once."""
        self._votes.appendleft(vote)
        new, self._warned = reason != self._warned, reason
        about = f"round {vote.record.number} of {vote.record.model} may have been committed"
        return f"{about}, and no other is held in its place; to be tried again: {reason}" if new else ""
