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
    MAX_VALUES,
    Count,
    Digest,
    Label,
    Message,
    Name,
    Real,
    Reason,
    RequestKey,
    Seconds,
    WireValue,
    require,
)
from protocol.messages.queries import Options

MAX_MODELS = 16
"""Models that one run trains in rounds."""

Model = Name
"""The name of a model; spelled like a node's, since files are named after it."""


def _sorted(names: tuple[str, ...]) -> tuple[str, ...]:
    require(list(names) == sorted(set(names)), "sorted names, each once")
    return names


Reasons = Annotated[dict[Name, Reason], Field(max_length=MAX_MEMBERS)]
Names = Annotated[tuple[Name, ...], Field(max_length=MAX_MEMBERS), AfterValidator(_sorted)]
"""Nodes, sorted, each once."""
Values = Annotated[dict[Label, Real], Field(max_length=MAX_VALUES)]
Weight = Annotated[Real, Field(gt=0, allow_inf_nan=False)]


class BlobRef(WireValue):
    """A blob that can be fetched: the digest of the state in it, which is its key, and its size in bytes."""

    digest: Digest
    size: Annotated[Count, Field(ge=1)]


class RoundPlanMessage(WireValue):
    """The rounds that a node requests.

    Attributes:
        key: its name in the run.
        requester: the node that requests it, and holds `given`.
        model: which model it trains.
        task: what every contributor does.
        rounds: how many rounds.
        federation: how contributions are aggregated, as JSON; opaque to the protocol.
        options: of the task.
        given: a model state that every member adopts instead of contributing.
    """

    key: RequestKey
    requester: Name
    model: Model
    task: Label
    rounds: Annotated[Count, Field(ge=1)]
    federation: Annotated[str, Field(max_length=4096)]
    options: Options
    given: BlobRef | None = None

    @model_validator(mode="after")
    def _given_once(self) -> Self:
        require(self.given is None or self.rounds == 1, "one round of a plan with a given model")
        return self


class ModelVersion(WireValue):
    """A version of a model: the outcome of its last closed round.

    Attributes:
        number: of that round, 0 for none.
        outcome: the model's state after it.
        key: the plan of that round.
        index: of that round in its plan.
    """

    number: Count
    outcome: BlobRef
    key: Annotated[str, Field(max_length=128)] = ""
    index: Count = 0


ModelVersions = Annotated[dict[Model, ModelVersion], Field(max_length=MAX_MODELS)]


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


class ContributionRef(WireValue):
    """The contribution of one participant.

    Attributes:
        weight: in the aggregate.
        blobs: its state: one blob; a contribution of any other number is rejected.
        values: its measurements, by name.
    """

    weight: Weight
    blobs: Annotated[tuple[BlobRef, ...], Field(max_length=MAX_MEMBERS)]
    values: Values


class RoundCommit(RoundMessage):
    """A majority has computed the same outcome: the round is closed, and this is its record.

    Attributes:
        key: its plan.
        index: of the round in its plan, from 1.
        rounds: of the plan.
        leader: who led it.
        outcome: the model's state after it.
        weights: of the contributors.
        values: their measurements.
        late: who was alive but did not contribute in time.
        lost: who died, left or declined, with the reason.
        refused: whose contribution was rejected, with the reason.
        seconds: from its opening to its close.
    """

    kind: ClassVar[str] = "round_commit"
    numbered: ClassVar[bool] = True

    key: RequestKey
    index: Annotated[Count, Field(ge=1)]
    rounds: Annotated[Count, Field(ge=1)]
    leader: Name
    outcome: BlobRef
    weights: Annotated[dict[Name, Weight], Field(max_length=MAX_MEMBERS)]
    values: Annotated[dict[Name, Values], Field(max_length=MAX_MEMBERS)]
    late: Names
    lost: Reasons
    refused: Reasons
    seconds: Seconds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require(self.index <= self.rounds, "index <= rounds")
        require(self.values.keys() <= self.weights.keys(), "values of contributors only")
        _require_disjoint(self.weights, self.late, self.lost)
        return self

    def is_of(self, plan: RoundPlanMessage) -> bool:
        """Whether it is the record of a round of this plan."""
        return (self.model, self.key, self.rounds) == (plan.model, plan.key, plan.rounds)


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
        versions: of the leader's models; a member that is behind fetches what it lacks.
        members: who takes part in closing it, sorted; of n in a sharded round the i-th reduces the chunks i, i + n, ...
        contributors: who is to contribute, sorted.
        recovered: the record with which an earlier leader may have closed this round; adopted without contributions.
    """

    kind: ClassVar[str] = "round_open"
    numbered: ClassVar[bool] = True

    index: Annotated[Count, Field(ge=1)]
    plan: RoundPlanMessage
    versions: ModelVersions
    members: Names
    contributors: Names
    recovered: RoundCommit | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        plan, version, record = self.plan, self.versions.get(self.model), self.recovered
        require(plan.model == self.model and self.index <= plan.rounds, "a round of the plan: its model, its rounds")
        require(version is not None and self.number == version.number + 1, "the number after the model's version")
        require(set(self.contributors) <= set(self.members), "contributors among the members")
        no_work = plan.given is not None or record is not None
        require(not (no_work and self.contributors), "no contributors to a given or a recovered model")
        if record is not None:
            same = (record.number, record.index) == (self.number, self.index)
            require(same and record.is_of(plan), "the recovered record to be of this very round")
        return self


class ContributionAvailable(RoundMessage):
    """The sender's contribution can be fetched."""

    kind: ClassVar[str] = "contribution_available"
    numbered: ClassVar[bool] = True

    contribution: ContributionRef


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
        late: as in the record.
        lost: as in the record.
        refused: as in the record.
        seconds: as in the record.
    """

    kind: ClassVar[str] = "round_close"
    numbered: ClassVar[bool] = True

    contributions: Annotated[dict[Name, ContributionRef], Field(max_length=MAX_MEMBERS)]
    late: Names
    lost: Reasons
    refused: Reasons
    seconds: Seconds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_disjoint(self.contributions, self.late, self.lost)
        return self


class ShardReduced(RoundMessage):
    """The sender has reduced its share of the chunks (`shard`, None if it has none): it needs no contribution now."""

    kind: ClassVar[str] = "shard_reduced"
    numbered: ClassVar[bool] = True

    shard: BlobRef | None


class RoundVote(RoundMessage):
    """The sender has computed this outcome and has it on disk. To the leader."""

    kind: ClassVar[str] = "round_vote"
    numbered: ClassVar[bool] = True

    outcome: BlobRef


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
