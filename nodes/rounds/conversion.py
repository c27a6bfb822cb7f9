"""Between the values that methods know and the messages that carry them."""

from __future__ import annotations

from pydantic import ValidationError

from fednet.api import RoundPlan, RoundRecord
from fednet.errors import MethodError
from fednet.federated.config import Federation
from protocol.messages.rounds import BlobRef, ModelVersion, RoundClose, RoundCommit, RoundOpen, RoundPlanMessage
from protocol.rounds import round_message


def to_plan_message(programme: RoundPlan, asker: str, given: BlobRef | None) -> RoundPlanMessage:
    """A programme as it is ordered.

    Raises:
        MethodError: it is none.
    """
    if given is not None and programme.rounds != 1:
        raise MethodError(f"programme {programme.key!r} gives a model in {programme.rounds} rounds: give it in one")
    try:
        return RoundPlanMessage(
            key=programme.key,
            requester=asker,
            model=programme.model,
            task=programme.work,
            rounds=programme.rounds,
            federation=programme.federation.model_dump_json(),
            options=dict(programme.options),
            given=given,
        )
    except ValidationError as error:
        raise MethodError(f"programme {programme.key!r} cannot be ordered: {error}") from error


def federation_from(plan: RoundPlanMessage) -> Federation:
    """How the contributions to an ordered programme become one model.

    Raises:
        ValidationError: its asker speaks of a rule that this node does not know.
    """
    return Federation.model_validate_json(plan.federation)


def version_after(record: RoundCommit) -> ModelVersion:
    """Where a model stands after a round."""
    return ModelVersion(number=record.number, outcome=record.outcome, key=record.key, index=record.index)


def to_round_record(commit: RoundCommit) -> RoundRecord:
    """The record of a round, as a method sees it."""
    return RoundRecord(
        number=commit.number,
        model=commit.model,
        weights=dict(sorted(commit.weights.items())),
        values={name: dict(values) for name, values in sorted(commit.values.items())},
        late=commit.late,
        lost=dict(commit.lost),
        refused=dict(commit.refused),
        digest=commit.outcome.digest,
        seconds=commit.seconds,
        lead=commit.leader,
    )


def to_commit(opened: RoundOpen, close: RoundClose, lead: str, left: BlobRef) -> RoundCommit:
    """The record of a round, as everybody can write it who has computed what it leaves."""
    return round_message(
        RoundCommit,
        opened,
        key=opened.plan.key,
        index=opened.index,
        rounds=opened.plan.rounds,
        leader=lead,
        outcome=left,
        weights={name: share.weight for name, share in close.contributions.items()},
        values={name: share.values for name, share in close.contributions.items()},
        late=close.late,
        lost=close.lost,
        refused=close.refused,
        seconds=close.seconds,
    )
