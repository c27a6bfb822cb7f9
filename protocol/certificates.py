"""Certificates: a round is committed by the signed votes of a majority of the configured members.

Nobody adopts an outcome or believes a record without them.
A vote names the record of the round by its digest: model, number, base, outcome, transcript, contributors with their
weights and values, who was late, lost or refused. Where nodes have no keys a signature is empty, and a certificate says
no more than the names in it.

Pure: signatures are checked by the function that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from hashlib import sha256

from protocol.messages.rounds import RoundCommit, RoundVote
from protocol.transcript import canonical, statement

Verify = Callable[[str, bytes, bytes], bool]
"""Whether a member (its name) has made this statement with this signature."""


def record_digest(record: RoundCommit) -> str:
    """SHA-256 over what a vote for a record covers, 64 lower-case hexadecimal digits."""
    return sha256(canonical(record.model_copy(update={"votes": {}, "remarks": {}}))).hexdigest()


def vote_for(record: RoundCommit) -> RoundVote:
    """The vote for a record, not yet signed."""
    return RoundVote(
        model=record.model, number=record.number, term=record.term, attempt=record.attempt,
        base=record.base, outcome=record.outcome, transcript=record.transcript, record=record_digest(record),
    )  # fmt: skip


def valid_votes(run: str, record: RoundCommit, members: Collection[str], verify: Verify) -> dict[str, bytes]:
    """The votes in a record that members have cast for it, by name."""
    said = statement(run, vote_for(record))
    return {
        name: signature
        for name, signature in sorted(record.votes.items())
        if name in members and verify(name, said, signature)
    }


def is_certified(run: str, record: RoundCommit, members: Collection[str], majority: int, verify: Verify) -> bool:
    """Whether a majority of the configured members has voted for a record."""
    return len(record.votes) >= majority and len(valid_votes(run, record, members, verify)) >= majority


def possibly_committed(votes: int, absent: int, majority: int) -> bool:
    """Whether those that have voted for a record, and the members that cannot be asked, are a majority together."""
    return votes + absent >= majority
