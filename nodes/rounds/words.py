"""Between the values that methods know and the messages that carry them."""

from __future__ import annotations

from fednet.conversations import Closed, Programme
from fednet.federated.config import Federation
from protocol.messages.rounds import Commit, Piece, Plan


def plan_of(programme: Programme, asker: str, given: Piece | None) -> Plan:
    """A programme as it is ordered."""
    return Plan(
        key=programme.key,
        asker=asker,
        model=programme.model,
        work=programme.work,
        rounds=programme.rounds,
        federation=programme.federation.model_dump_json(),
        options=dict(programme.options),
        given=given,
    )


def federation_of(plan: Plan) -> Federation:
    """How the contributions to an ordered programme become one model.

    Raises:
        ValidationError: its asker speaks of a rule that this node does not know.
    """
    return Federation.model_validate_json(plan.federation)


def closed_of(commit: Commit) -> Closed:
    """The record of a round, as a method sees it."""
    return Closed(
        number=commit.number,
        model=commit.model,
        weights=dict(sorted(commit.weights.items())),
        values={name: dict(values) for name, values in sorted(commit.values.items())},
        late=commit.late,
        lost=dict(commit.lost),
        refused=dict(commit.refused),
        digest=commit.left.digest,
        seconds=commit.seconds,
        lead=commit.lead,
    )
