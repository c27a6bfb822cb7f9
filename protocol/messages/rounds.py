"""Messages of a round: it opens, participants contribute, and it closes with one aggregate that a majority voted for.

PROTOCOL.md, "Rounds", gives their order; `protocol.rounds` decides when a round closes. Model states do not travel in
these messages but as blobs (`protocol.messages.blobs`), named here by their digests.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from protocol.messages.base import (
    MAX_MEMBERS,
    Count,
    Digest,
    Message,
    Name,
    Reason,
    RequestKey,
    Seconds,
    require,
)
from protocol.messages.round_values import (
    MAX_MODELS,
    BlobRef,
    ContributionRef,
    Leaves,
    Model,
    Names,
    Reasons,
    RoundPlanMessage,
    Signature,
    Signatures,
    Values,
    Weight,
)


class RoundMessage(Message):
    """A message of one attempt at one round.

    Attributes:
        model: which model.
        number: of the round, from 1.
        term: of the leader.
        attempt: counts the attempts that this leader has opened in its term, from 1. A round that loses a member which
            holds a shard is attempted again.
    """

    model: Model
    number: Annotated[Count, Field(ge=1)]
    term: Count
    attempt: Annotated[Count, Field(ge=1)]


class RoundCommit(RoundMessage):
    """A majority has computed the same outcome: the round is closed, and this is its record.

    Believed only with the votes of a majority (`protocol.certificates`), which cover every field but the last two.

    Attributes:
        key: its plan.
        index: of the round in its plan, from 1.
        rounds: of the plan.
        leader: who led it.
        base: the digest of the state that it started from.
        outcome: the model's state after it.
        transcript: over its opening and all contributions that count (`protocol.transcript`).
        weights: of the contributors.
        values: their measurements.
        late: who was alive but did not contribute in time.
        lost: who died, left or declined, with the reason.
        refused: whose contribution was rejected, with the reason.
        seconds: from its opening to its close.
        votes: of those that have computed this outcome.
        remarks: whom the leader has refused since the close, with the reason: its own claim.
    """

    kind: ClassVar[str] = "round_commit"
    numbered: ClassVar[bool] = True

    key: RequestKey
    index: Annotated[Count, Field(ge=1)]
    rounds: Annotated[Count, Field(ge=1)]
    leader: Name
    base: Digest
    outcome: BlobRef
    transcript: Digest
    weights: Annotated[dict[Name, Weight], Field(max_length=MAX_MEMBERS)]
    values: Annotated[dict[Name, Values], Field(max_length=MAX_MEMBERS)]
    late: Names
    lost: Reasons
    refused: Reasons
    seconds: Seconds
    votes: Signatures = Field(default_factory=dict)
    remarks: Reasons = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require(self.index <= self.rounds, "index <= rounds")
        require(self.values.keys() <= self.weights.keys(), "values of contributors only")
        _require_disjoint(self.weights, self.late, self.lost)
        return self

    def is_of(self, plan: RoundPlanMessage) -> bool:
        """Whether it is the record of a round of this plan."""
        return (self.model, self.key, self.rounds) == (plan.model, plan.key, plan.rounds)


def _records(records: dict[str, RoundCommit]) -> dict[str, RoundCommit]:
    require(all(record.model == model for model, record in records.items()), "records under the names of their models")
    return records


RoundRecords = Annotated[dict[Model, RoundCommit], Field(max_length=MAX_MODELS), AfterValidator(_records)]
"""By model, the record of its latest round; a model that no round has changed has none."""


def _require_disjoint(*fates: Collection[str]) -> None:
    count, names = sum(map(len, fates)), {name for fate in fates for name in fate}
    require(len(names) == count, "nobody to have contributed, been late and been lost at once")


class RoundsRequest(Message):
    """Requests the rounds of a plan; may be repeated.

    Attributes:
        plan: the plan.
        after: how many records of it the sender has without a gap; the leader sends the later ones again.
    """

    kind: ClassVar[str] = "rounds_request"
    numbered: ClassVar[bool] = True

    plan: RoundPlanMessage
    after: Count = 0

    def may_be_from(self, sender: str, incarnation: int) -> bool:
        """Whether its sender requests the rounds for itself."""
        return self.plan.requester == sender


class RoundOpen(RoundMessage):
    """The leader opens a round.

    Attributes:
        index: of the round in its plan, from 1.
        plan: the plan.
        records: of the leader's models; a member that is behind fetches what it lacks.
        base: the state of the model that the round starts from: the outcome of its record, or its initial state.
        members: who takes part in closing it, sorted; of n in a sharded round the i-th reduces the chunks i, i + n, ...
        contributors: who is to contribute, sorted.
        recovered: the record with which an earlier leader may have closed this round, with the votes for it that are
            known; adopted without contributions.
    """

    kind: ClassVar[str] = "round_open"
    numbered: ClassVar[bool] = True

    index: Annotated[Count, Field(ge=1)]
    plan: RoundPlanMessage
    records: RoundRecords
    base: BlobRef
    members: Names
    contributors: Names
    recovered: RoundCommit | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        plan, record, latest = self.plan, self.recovered, self.records.get(self.model)
        require(plan.model == self.model and self.index <= plan.rounds, "a round of the plan: its model, its rounds")
        require(self.number == (latest.number if latest else 0) + 1, "the number after the model's record")
        require(latest is None or self.base == latest.outcome, "the outcome of the model's record as base")
        require(set(self.contributors) <= set(self.members), "contributors among the members")
        no_work = plan.given is not None or record is not None
        require(not (no_work and self.contributors), "no contributors to a given or a recovered model")
        if record is not None:
            same = (record.number, record.index) == (self.number, self.index)
            require(same and record.is_of(plan), "the recovered record to be of this very round")
        return self


class ContributionAvailable(RoundMessage):
    """The sender's contribution can be fetched.

    Attributes:
        opening: the digest of the opening that it answers.
        contribution: what it offers.
        leaves: of its blob.
        signature: of the sender.
    """

    kind: ClassVar[str] = "contribution_available"
    numbered: ClassVar[bool] = True

    opening: Digest
    contribution: ContributionRef
    leaves: Leaves = b""
    signature: Signature = b""


class RoundDecline(RoundMessage):
    """The sender cannot contribute, and why.

    Attributes:
        reason: why.
        can_vote: whether it can still compute the outcome.
    """

    kind: ClassVar[str] = "round_decline"
    numbered: ClassVar[bool] = True

    reason: Reason
    can_vote: bool


class ContributionReceipt(RoundMessage):
    """The sender rejects what a member has sent: a contribution, or a share of the result. To the leader.

    Attributes:
        contributor: that member.
        refused: why.
    """

    kind: ClassVar[str] = "contribution_receipt"
    numbered: ClassVar[bool] = True

    contributor: Name
    refused: Reason = ""


class RoundClose(RoundMessage):
    """The contributions to the aggregate are final; every member computes it, and can write the record of the round.

    Attributes:
        contributions: by name.
        signatures: of the contributors, over their `ContributionAvailable`.
        late: as in the record.
        lost: as in the record.
        refused: as in the record.
        seconds: as in the record.
    """

    kind: ClassVar[str] = "round_close"
    numbered: ClassVar[bool] = True

    contributions: Annotated[dict[Name, ContributionRef], Field(max_length=MAX_MEMBERS)]
    signatures: Signatures
    late: Names
    lost: Reasons
    refused: Reasons
    seconds: Seconds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_disjoint(self.contributions, self.late, self.lost)
        return self


class ShardReduced(RoundMessage):
    """The sender has reduced its share of the chunks: it needs no contribution to do so any more.

    Attributes:
        transcript: as in the record: of which contributions.
        shard: these chunks of the result, one after another; None if it has none.
        leaves: of the shard.
        signature: of the sender.
    """

    kind: ClassVar[str] = "shard_reduced"
    numbered: ClassVar[bool] = True

    transcript: Digest
    shard: BlobRef | None
    leaves: Leaves = b""
    signature: Signature = b""


class FalseShard(RoundMessage):
    """The sender has reduced a chunk again, and a member's share differs. To all, each of which can check it.

    Attributes:
        owner: that member.
        reduced: what it has said, with its signature.
        chunk: the index of the chunk.
    """

    kind: ClassVar[str] = "false_shard"
    numbered: ClassVar[bool] = True

    owner: Name
    reduced: ShardReduced
    chunk: Count


class RoundVote(RoundMessage):
    """The sender has computed this outcome and has it on disk. To all.

    Attributes:
        base: as in the record.
        outcome: as in the record.
        transcript: as in the record.
        record: the digest of the record.
        signature: of the sender.
    """

    kind: ClassVar[str] = "round_vote"
    numbered: ClassVar[bool] = True

    base: Digest
    outcome: BlobRef
    transcript: Digest
    record: Digest
    signature: Signature = b""


class ModelAdopted(RoundMessage):
    """The sender has adopted the outcome of the round, and has it on disk. To the leader.

    It answers queries from that model now; in rounds with a buffer, once its training for a later round is done.
    """

    kind: ClassVar[str] = "model_adopted"
    numbered: ClassVar[bool] = True


class RoundsAborted(Message):
    """The rounds of a plan cannot go on, and why. They may be requested again.

    Attributes:
        term: of the leader.
        key: the plan.
        lost: who could not take part, with the reason.
        reason: what was needed.
    """

    kind: ClassVar[str] = "rounds_aborted"
    numbered: ClassVar[bool] = True

    term: Count
    key: RequestKey
    lost: Reasons
    reason: Reason
