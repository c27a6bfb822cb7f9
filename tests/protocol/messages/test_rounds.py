"""What the messages of rounds accept."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from protocol.messages import RoundCommit, RoundOpen, RoundsRequest
from protocol.messages.rounds import BlobRef, ContributionRef, RoundPlanMessage

DIGEST = "0123456789abcdef" * 4
BLOB = BlobRef(digest=DIGEST, size=1)
PLAN: dict[str, Any] = {
    "key": "k", "requester": "guest", "model": "m", "task": "train", "rounds": 1, "federation": "{}", "options": {},
}  # fmt: skip
ROUND: dict[str, Any] = {"model": "m", "number": 1, "term": 1, "attempt": 1}
RECORD: dict[str, Any] = {
    **ROUND, "key": "k", "index": 1, "rounds": 1, "leader": "a", "outcome": BLOB, "weights": {"a": 1.0}, "values": {},
    "late": (), "lost": {}, "refused": {}, "seconds": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("digest", ["", DIGEST[:-1], DIGEST.upper(), DIGEST + "\n", 7])
def test_invalid_digests(digest: Any) -> None:
    with pytest.raises(ValidationError):
        BlobRef(digest=digest, size=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""}, {"key": "x" * 129}, {"requester": "A"}, {"model": "../m"}, {"model": ""}, {"task": ""},
        {"rounds": 0}, {"rounds": True}, {"federation": "x" * 4097}, {"options": {"o": [1]}}, {"given": DIGEST},
    ],
)  # fmt: skip
def test_a_plan_is_exact(wrong: dict[str, Any]) -> None:
    assert RoundsRequest(plan=RoundPlanMessage(**PLAN)).after == 0
    with pytest.raises(ValidationError):
        RoundPlanMessage(**(PLAN | wrong))


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, "1", True])
def test_a_weight_is_finite_and_positive(weight: Any) -> None:
    assert ContributionRef(weight=1, blobs=(), values={"loss": math.nan}).weight == 1.0
    with pytest.raises(ValidationError):
        ContributionRef(weight=weight, blobs=(), values={})
    with pytest.raises(ValidationError):
        RoundCommit(**(RECORD | {"weights": {"a": weight}}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 0}, {"attempt": 0}, {"term": -1}, {"index": 0}, {"seconds": math.inf}, {"late": ("A",)},
        {"lost": {"a": "x" * 501}}, {"outcome": DIGEST}, {"leader": ""}, {"model": "M"},
    ],
)  # fmt: skip
def test_a_record_is_exact(wrong: dict[str, Any]) -> None:
    assert RoundCommit(**RECORD).weights == {"a": 1.0}
    with pytest.raises(ValidationError):
        RoundCommit(**(RECORD | wrong))


def test_a_round_has_at_most_256_members() -> None:
    names = tuple(f"n{index}" for index in range(256))
    fields = {
        **ROUND,
        "index": 1,
        "plan": RoundPlanMessage(**PLAN),
        "versions": {},
        "members": names,
        "contributors": names,
    }
    assert RoundOpen(**fields).recovered is None
    for wrong in ({"members": (*names, "more")}, {"contributors": ("A",)}, {"recovered": BLOB}):
        with pytest.raises(ValidationError):
            RoundOpen(**(fields | wrong))


def test_a_record_comes_back_from_disk_as_it_was() -> None:
    record = RoundCommit(**(RECORD | {"values": {"a": {"loss": 0.1}}, "late": ("b",)}))
    assert RoundCommit.model_validate_json(record.model_dump_json()) == record
