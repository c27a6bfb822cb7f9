"""A round opens, peers contribute, it closes with one aggregate that everybody has computed and agreed on.

How they follow each other is told in PROTOCOL.md, "Rounds"; `protocol.election` decides who leads and `protocol.rounds`
when a round closes. States do not travel in these messages but as blobs (`protocol.messages.blobs`), named here by
their digests.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from protocol.messages.base import MAX_MEMBERS, MAX_VALUES, Count, Label, Message, Name, Real, Seconds, WireValue
from protocol.messages.queries import Options

MAX_MODELS = 16
"""How many models one run trains by rounds."""

MAX_RECORDS = 256
"""Records that one recall is answered with at most."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""What names a state: a hash of all of it."""

Model = Name
"""The name of a model; as plain as a node's, since files are called after it."""

Reason = Annotated[str, Field(max_length=500)]
Reasons = Annotated[dict[Name, Reason], Field(max_length=MAX_MEMBERS)]
Names = Annotated[tuple[Name, ...], Field(max_length=MAX_MEMBERS)]
Values = Annotated[dict[Label, Real], Field(max_length=MAX_VALUES)]
Weight = Annotated[Real, Field(gt=0, allow_inf_nan=False)]


class BlobRef(WireValue):
    """A blob that can be fetched: the digest of the state in it, which is its key, and its size in bytes."""

    digest: Digest
    size: Annotated[Count, Field(ge=1)]


class RoundPlanMessage(WireValue):
    """A programme of rounds that somebody asks for.

    Attributes:
        key: its name in the run.
        requester: who asks for it, and holds `given`.
        model: which model it is about.
        task: what every contributor does.
        rounds: how many rounds.
        federation: how contributions become one model, as JSON; opaque to the protocol.
        options: of the task.
        given: the model that everybody takes over instead of contributing.
    """

    key: Annotated[str, Field(min_length=1, max_length=128)]
    requester: Name
    model: Model
    task: Label
    rounds: Annotated[Count, Field(ge=1)]
    federation: Annotated[str, Field(max_length=4096)]
    options: Options
    given: BlobRef | None = None


class ModelVersion(WireValue):
    """How far a model is.

    Attributes:
        number: of its last closed round, 0 for none.
        outcome: what that round left, as a blob.
        key: the programme of that round.
        index: which round of the programme it was.
    """

    number: Count
    outcome: BlobRef
    key: Annotated[str, Field(max_length=128)] = ""
    index: Count = 0


ModelVersions = Annotated[dict[Model, ModelVersion], Field(max_length=MAX_MODELS)]


class RoundMessage(Message):
    """What belongs to one attempt at one round.

    Attributes:
        model: which model.
        number: which round of it, from 1.
        term: the term of its lead.
        attempt: counts all that this lead has opened by its term, from 1. A round that loses a keeper of shards is
            opened again.
    """

    model: Model
    number: Annotated[Count, Field(ge=1)]
    term: Count
    attempt: Annotated[Count, Field(ge=1)]


class ContributionRef(WireValue):
    """What one contributor has to give.

    Attributes:
        weight: how much it counts.
        blobs: its state, whole or as one shard for each member; a sharded round closes without naming them
            again, since every member holds its own by then.
        values: what it measured.
    """

    weight: Weight
    blobs: Annotated[tuple[BlobRef, ...], Field(max_length=MAX_MEMBERS)]
    values: Values


class RoundCommit(RoundMessage):
    """A majority has computed the same: the round is closed, and this is its record.

    Attributes:
        key: its programme.
        index: which round of its programme, from 1.
        rounds: how many the programme has.
        leader: who led it.
        outcome: what everybody has now.
        weights: who contributed, with what weight.
        values: what each contributor measured.
        late: who lives but did not contribute in time.
        lost: who died, left or declined, with the reason.
        refused: whose contribution was refused, with the reason.
        seconds: from its opening to its close.
    """

    kind: ClassVar[str] = "round_commit"
    numbered: ClassVar[bool] = True

    key: Annotated[str, Field(min_length=1, max_length=128)]
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


class AcceptedVote(WireValue):
    """What somebody has voted for: the programme, and the record of the round if a majority has done the same."""

    plan: RoundPlanMessage
    record: RoundCommit


class RoundsRequest(Message):
    """Asks for a programme of rounds. To ask again is harmless.

    Attributes:
        plan: the programme.
        after: how many of its rounds the asker has heard the records of, from the first on; the others are told again.
    """

    kind: ClassVar[str] = "rounds_request"
    numbered: ClassVar[bool] = True

    plan: RoundPlanMessage
    after: Count = 0


class Prepare(Message):
    """The sender, to whom `term` belongs, wants to lead."""

    kind: ClassVar[str] = "prepare"
    numbered: ClassVar[bool] = True

    term: Count


class Promise(Message):
    """The answer to a claim: the sender refuses whoever leads by a lower term than this from now on.

    Attributes:
        term: the one that was claimed, or a higher one that has been promised already.
        versions: how far the sender's models are.
        accepted: of every model the outcome that the sender has voted for and knows no commit of; perhaps others do.
    """

    kind: ClassVar[str] = "promise"
    numbered: ClassVar[bool] = True

    term: Count
    versions: ModelVersions
    accepted: Annotated[dict[Model, AcceptedVote], Field(max_length=MAX_MODELS)]


class LeaderAnnouncement(Message):
    """The sender leads by this term, and no round is open for the receiver: whoever is behind catches up.

    Said to every member that comes, and to all when no more rounds are ordered.

    Attributes:
        term: the term.
        attempt: the latest that the sender has opened, 0 for none: it may open more before this is heard.
        versions: how far the sender's models are.
    """

    kind: ClassVar[str] = "leader_announcement"
    numbered: ClassVar[bool] = True

    term: Count
    attempt: Count
    versions: ModelVersions


class RoundOpen(RoundMessage):
    """A round opens.

    Attributes:
        index: which round of its programme, from 1.
        plan: the programme.
        versions: how far the lead's models are; whoever is behind fetches what it lacks.
        members: who takes part in closing it, sorted; in a sharded round the i-th keeps shard i.
        contributors: who is to contribute, sorted.
        recovered: what an earlier lead may have closed this round with: taken over as it is, and nobody contributes.
    """

    kind: ClassVar[str] = "round_open"
    numbered: ClassVar[bool] = True

    index: Annotated[Count, Field(ge=1)]
    plan: RoundPlanMessage
    versions: ModelVersions
    members: Names
    contributors: Names
    recovered: RoundCommit | None = None


class ContributionAvailable(RoundMessage):
    """The sender's contribution is ready to be fetched."""

    kind: ClassVar[str] = "contribution_available"
    numbered: ClassVar[bool] = True

    contribution: ContributionRef


class RoundDecline(RoundMessage):
    """The sender cannot contribute, and why.

    Attributes:
        reason: why.
        can_vote: whether it can still compute what the round leaves.
    """

    kind: ClassVar[str] = "round_decline"
    numbered: ClassVar[bool] = True

    reason: Reason
    can_vote: bool


class ContributionReceipt(RoundMessage):
    """The sender holds its piece of a contribution, or refuses it, and why. To the lead."""

    kind: ClassVar[str] = "contribution_receipt"
    numbered: ClassVar[bool] = True

    contributor: Name
    refused: Annotated[str, Field(max_length=500)] = ""


class RoundClose(RoundMessage):
    """These contributions make the aggregate; everybody computes it, and can write the record of the round.

    Attributes:
        contributions: the contributions by name.
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


class ShardReduced(RoundMessage):
    """The sender's shard of the aggregate is ready to be fetched."""

    kind: ClassVar[str] = "shard_reduced"
    numbered: ClassVar[bool] = True

    shard: BlobRef


class RoundVote(RoundMessage):
    """The sender has computed what the round leaves, and will not forget it. To the lead."""

    kind: ClassVar[str] = "round_vote"
    numbered: ClassVar[bool] = True

    outcome: BlobRef


class ModelAdopted(RoundMessage):
    """The sender has taken over what the round left, and has it on disk. To the lead.

    From now on it answers from that; in rounds with a buffer, once the work that it is at for a later round is done.
    """

    kind: ClassVar[str] = "model_adopted"
    numbered: ClassVar[bool] = True


class RoundsAborted(Message):
    """A programme cannot go on, and why. It may be ordered again.

    Attributes:
        term: the term of the lead that says so.
        key: the programme.
        lost: who could not take part, with the reason.
        reason: what was needed.
    """

    kind: ClassVar[str] = "rounds_aborted"
    numbered: ClassVar[bool] = True

    term: Count
    key: Annotated[str, Field(min_length=1, max_length=128)]
    lost: Reasons
    reason: Reason


class RecordRequest(Message):
    """Asks for the records of a model's rounds; answered with at most `RECALLED` commits, the earliest first.

    Attributes:
        model: which model.
        after: the number of the last round that is not asked for.
    """

    kind: ClassVar[str] = "record_request"
    numbered: ClassVar[bool] = True

    model: Model
    after: Count
