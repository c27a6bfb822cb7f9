"""What the members of one attempt at a round sign, and what each checks of the others' statements.

All of it is bound to the digest of the attempt's opening: whoever was told another opening answers another one. Knows
nothing of who waits for what (`protocol.machines.attempt`, `nodes.rounds.part`).
"""

from __future__ import annotations

from copy import copy
from typing import TypeVar

from protocol.certificates import vote_for
from protocol.machines.signatory import Signatory
from protocol.machines.sizes import values_objection
from protocol.messages.round_values import BlobRef
from protocol.messages.rounds import ContributionAvailable, RoundClose, RoundCommit, RoundOpen, RoundVote, ShardReduced
from protocol.messages.secure_sum import Equivocation, KeyAdvertisement
from protocol.rounds import commit_of, contribution_in, reopened, round_message
from protocol.transcript import is_same, opening_digest, transcript

A = TypeVar("A", ContributionAvailable, KeyAdvertisement)


class AttemptStatements:
    """The statements of one attempt.

    Args:
        signatory: signs and verifies.
        opened: the attempt.
        leader: leads it.

    Attributes:
        opening: the digest of the opening.
    """

    def __init__(self, signatory: Signatory, opened: RoundOpen, leader: str) -> None:
        self.opening = opening_digest(signatory.run, opened)
        self._signatory, self._opened, self._leader = signatory, opened, leader
        self._agreed: tuple[RoundClose, str] | None = None  # the latest close that was asked about

    def checked_by(self, signatory: Signatory) -> AttemptStatements:
        """The same, with another signatory of this node."""
        same = copy(self)
        same._signatory = signatory  # noqa: SLF001 - of this class
        return same

    def refusal(self, name: str, answer: A) -> str:
        """Why a member's answer to the opening does not count; empty if it does."""
        if not self._signatory.has_signed(name, answer, answer.signature):
            return "its signature is not valid"
        if answer.opening != self.opening:
            return "it answers another opening of this round"
        values = answer.contribution.values if isinstance(answer, ContributionAvailable) else answer.values
        return values_objection(values, len(self._signatory.members))

    def is_proof(self, message: Equivocation) -> bool:
        """Whether a member has signed two advertisements for this opening; without keys nothing is a proof."""
        pair = (message.first, message.second)
        return not is_same(*pair) and all(
            each.signature and not self.refusal(message.advertiser, each) for each in pair
        )

    def shard(self, agreed: str, shard: BlobRef | None, leaves: bytes) -> ShardReduced:
        """This member's signed statement that it has reduced its share of the contributions to a transcript."""
        reduced = round_message(ShardReduced, self._opened, transcript=agreed, shard=shard, leaves=leaves)
        return self._signatory.signed(reduced)

    def has_reduced(self, name: str, reduced: ShardReduced) -> bool:
        """Whether a member has said so."""
        return self._signatory.has_signed(name, reduced, reduced.signature)

    def agreed(self, close: RoundClose) -> str:
        """The transcript of a close: the digest over the opening and the contributions that count."""
        if self._agreed is None or self._agreed[0] is not close:
            self._agreed = close, self.transcript(self.contributions(close))
        return self._agreed[1]

    def contributions(self, close: RoundClose) -> dict[str, ContributionAvailable]:
        """What every contributor must have said, if a close is true."""
        return {name: contribution_in(self._opened, close, self.opening, name) for name in close.contributions}

    def unfounded(self, close: RoundClose) -> list[str]:
        """The members that have not made the contributions which a close names."""
        return [
            name
            for name, claimed in self.contributions(close).items()
            if name not in self._opened.contributors or self.refusal(name, claimed)
        ]

    def transcript(self, answers: dict[str, A]) -> str:
        """The digest over the opening and the members' answers to it."""
        return transcript(self._signatory.run, self.opening, answers)

    def record(self, close: RoundClose, outcome: BlobRef) -> RoundCommit:
        """The record of the round with this outcome, without votes."""
        return commit_of(self._opened, close, self._leader, outcome, self.agreed(close))

    def recovered(self, record: RoundCommit, _outcome: BlobRef) -> RoundCommit:
        """The record of an earlier attempt as this one's, without votes: it has an outcome already."""
        return reopened(record, self._opened)

    def vote(self, record: RoundCommit) -> RoundVote:
        """This member's signed vote for a record."""
        return self._signatory.signed(vote_for(record))
