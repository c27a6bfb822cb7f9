"""Messages by which members elect the leader of rounds, and catch up with it.

PROTOCOL.md, "Rounds", gives their order; `protocol.election` decides who leads.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from protocol.messages.base import Count, Message, WireValue, require
from protocol.messages.round_values import MAX_MODELS, Model, RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundRecords

MAX_RECORDS = 256
"""Records that answer one `RecordRequest`."""


class AcceptedVote(WireValue):
    """A vote that a member has cast: the plan, and the record of the round if a majority votes alike.

    The record has the votes for it that the member knows, its own among them.
    """

    plan: RoundPlanMessage
    record: RoundCommit

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require(self.record.is_of(self.plan), "a record of the plan")
        return self


class Prepare(Message):
    """The sender, who owns `term`, is a candidate for leader."""

    kind: ClassVar[str] = "prepare"
    numbered: ClassVar[bool] = True

    term: Count


class Promise(Message):
    """The answer to a `Prepare`: the sender rejects leaders of a lower term from now on.

    Attributes:
        term: of the candidate, or a higher one that was promised before.
        records: of the sender's models.
        accepted: of every model the sender's vote for a round whose commit it does not know; others may know it.
    """

    kind: ClassVar[str] = "promise"
    numbered: ClassVar[bool] = True

    term: Count
    records: RoundRecords
    accepted: Annotated[dict[Model, AcceptedVote], Field(max_length=MAX_MODELS)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require(all(vote.plan.model == model for model, vote in self.accepted.items()), "votes by their model")
        return self


class LeaderAnnouncement(Message):
    """The sender leads in this term, and no round is open for the receiver: a member that is behind catches up.

    Sent to every member that joins, and to all when there are no more rounds to hold.

    Attributes:
        term: the term.
        attempt: the latest that the sender has opened, 0 for none; later ones may be opened before this arrives.
        records: of the sender's models.
    """

    kind: ClassVar[str] = "leader_announcement"
    numbered: ClassVar[bool] = True

    term: Count
    attempt: Count
    records: RoundRecords


class RecordRequest(Message):
    """Requests the records of a model's rounds; answered with at most `MAX_RECORDS` commits, the earliest first.

    Attributes:
        model: which model.
        after: the number of the last round that is not requested.
    """

    kind: ClassVar[str] = "record_request"
    numbered: ClassVar[bool] = True

    model: Model
    after: Count
