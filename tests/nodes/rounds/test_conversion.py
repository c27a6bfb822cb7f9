"""Values of methods become messages and come back."""

from __future__ import annotations

from typing import Any

import pytest

from fednet.api import RoundPlan
from fednet.errors import MethodError
from fednet.federated.config import Adam, Federation, TrimmedMean
from nodes.rounds.conversion import federation_from, to_commit, to_plan_message, to_round_record
from protocol.messages.rounds import BlobRef, ContributionRef, RoundClose, RoundOpen

PIECE = BlobRef(digest="0" * 64, size=3)


def programme(**changes: Any) -> RoundPlan:
    said: dict[str, Any] = {"key": "k", "model": "m", "work": "train", "rounds": 1, "federation": Federation()}
    return RoundPlan(**(said | changes))


@pytest.mark.parametrize(
    "federation", [Federation(), Federation(rule=TrimmedMean(trim=0.3), server=Adam(tau=1e-9), participation=1 / 3)]
)
def test_a_federation_comes_back_exactly(federation: Federation) -> None:
    plan = to_plan_message(programme(federation=federation, options={"x": 0.1, "y": None}), "guest", None)
    assert federation_from(plan) == federation
    assert plan.options == {"x": 0.1, "y": None}


@pytest.mark.parametrize(
    "changes", [{"key": ""}, {"rounds": 0}, {"model": "M"}, {"work": ""}, {"options": {"x": [1]}}, {"key": "x" * 200}]
)
def test_what_is_no_programme_is_refused_where_it_is_asked_for(changes: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match="cannot be ordered"):
        to_plan_message(programme(**changes), "guest", None)


def test_a_model_is_given_once() -> None:
    assert to_plan_message(programme(), "guest", PIECE).given == PIECE
    with pytest.raises(MethodError, match="give it in one"):
        to_plan_message(programme(rounds=2), "guest", PIECE)


def test_everybody_writes_the_record_that_the_close_says() -> None:
    plan = to_plan_message(programme(rounds=4), "guest", None)
    opened = RoundOpen(
        model="m", number=9, term=2, attempt=5, index=3, plan=plan, versions={}, members=("b", "a"), contributors=()
    )
    shares = {
        name: ContributionRef(weight=weight, blobs=(), values={"l": weight})
        for name, weight in (("b", 2.0), ("a", 1.0))
    }
    close = RoundClose(
        model="m",
        number=9,
        term=2,
        attempt=5,
        contributions=shares,
        late=("c",),
        lost={"d": "left"},
        refused={},
        seconds=1.5,
    )
    record = to_commit(opened, close, "a", PIECE)
    assert (record.key, record.index, record.rounds) == ("k", 3, 4)
    closed = to_round_record(record)
    assert list(closed.weights) == ["a", "b"]
    assert (closed.number, closed.late, closed.lost, closed.lead) == (9, ("c",), {"d": "left"}, "a")
    assert (closed.values["b"], closed.digest, closed.seconds) == ({"l": 2.0}, PIECE.digest, 1.5)
