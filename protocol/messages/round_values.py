"""What the messages of a round are made of: references to blobs, plans, versions, contributions, signatures.

A signature is over `protocol.transcript.statement`. Knows no message.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from protocol.messages.base import (
    MAX_MEMBERS,
    MAX_VALUES,
    SIGNATURE_BYTES,
    Count,
    Digest,
    Label,
    Name,
    Real,
    Reason,
    RequestKey,
    Text,
    WireValue,
    require,
)
from protocol.messages.queries import Options

MAX_MODELS = 16
"""Models that one run trains in rounds."""


def _signature(data: bytes) -> bytes:
    if len(data) not in {0, SIGNATURE_BYTES}:
        raise ValueError(f"expected a signature of {SIGNATURE_BYTES} bytes, or none where there are no keys")
    return data


Signature = Annotated[bytes, AfterValidator(_signature)]
"""An Ed25519 signature over `protocol.transcript.statement`; empty where nodes have no keys."""

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
    key: Annotated[Text, Field(max_length=128)] = ""
    index: Count = 0


ModelVersions = Annotated[dict[Model, ModelVersion], Field(max_length=MAX_MODELS)]
Signatures = Annotated[dict[Name, Signature], Field(max_length=MAX_MEMBERS)]


MAX_LEAVES = 16 << 10
"""Bytes of the leaves that a message tells, at most: of 512 chunks. Those of a larger blob are fetched."""

Leaves = Annotated[bytes, Field(max_length=MAX_LEAVES)]
"""The leaves of a blob's hash tree, so that nobody has to fetch them, or none. Its digest confirms them."""


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
