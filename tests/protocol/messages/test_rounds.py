"""What the messages of rounds accept."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest
from pydantic import ValidationError

from protocol.codec import VERSION, decode
from protocol.errors import WireError
from protocol.messages import Message, Promise, RoundClose, RoundCommit, RoundOpen, RoundsRequest
from protocol.messages.election import AcceptedVote
from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage

DIGEST = "0123456789abcdef" * 4
BLOB = BlobRef(digest=DIGEST, size=1)
PLAN: dict[str, Any] = {
    "key": "k", "requester": "guest", "model": "m", "task": "train", "rounds": 1, "federation": "{}", "options": {},
}  # fmt: skip
ROUND: dict[str, Any] = {"model": "m", "number": 1, "term": 1, "attempt": 1}
RECORD: dict[str, Any] = {
    **ROUND, "key": "k", "index": 1, "rounds": 1, "leader": "a", "base": DIGEST, "outcome": BLOB, "transcript": DIGEST,
    "weights": {"a": 1.0}, "values": {}, "late": (), "lost": {}, "refused": {}, "seconds": 0.0,
}  # fmt: skip


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
        {"lost": {"a": "x" * 501}}, {"outcome": DIGEST}, {"leader": ""}, {"model": "M"}, {"index": 2},
        {"values": {"b": {}}}, {"late": ("c", "b")}, {"late": ("b", "b")},
    ],
)  # fmt: skip
def test_a_record_is_exact(wrong: dict[str, Any]) -> None:
    assert RoundCommit(**RECORD).weights == {"a": 1.0}
    with pytest.raises(ValidationError):
        RoundCommit(**(RECORD | wrong))


OPEN: dict[str, Any] = {
    **ROUND, "index": 1, "plan": RoundPlanMessage(**PLAN), "records": {}, "base": BLOB,
    "members": ("a", "b", "c"), "contributors": ("a", "b"),
}  # fmt: skip


def test_a_round_has_at_most_256_members() -> None:
    names = tuple(f"n{index:03}" for index in range(256))
    assert RoundOpen(**(OPEN | {"members": names, "contributors": names})).recovered is None
    with pytest.raises(ValidationError):
        RoundOpen(**(OPEN | {"members": (*names, "o")}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"contributors": ("A",)}, {"recovered": BLOB}, {"contributors": ("a", "d")}, {"contributors": ("b", "a")},
        {"members": ("a", "b", "b", "c")}, {"members": ("c", "b", "a")}, {"model": "other"}, {"index": 2},
        {"records": {"other": RoundCommit(**RECORD)}}, {"number": 2}, {"records": {"m": RoundCommit(**RECORD)}},
        {"records": {"m": RoundCommit(**RECORD)}, "number": 2, "base": BlobRef(digest="9" * 64, size=1)},
        {"plan": RoundPlanMessage(**(PLAN | {"model": "n"}))}, {"plan": RoundPlanMessage(**(PLAN | {"given": BLOB}))},
        {"recovered": RoundCommit(**RECORD)},
    ],
)  # fmt: skip
def test_what_an_opening_says_fits_together(wrong: dict[str, Any]) -> None:
    assert RoundOpen(**OPEN).contributors == ("a", "b")
    with pytest.raises(ValidationError):
        RoundOpen(**(OPEN | wrong))


@pytest.mark.parametrize(
    "wrong", [{"number": 2}, {"model": "n"}, {"key": "other"}, {"rounds": 2}, {"index": 2, "rounds": 2}]
)
def test_a_recovered_record_is_of_this_very_round(wrong: dict[str, Any]) -> None:
    whole = OPEN | {"contributors": ()}
    assert RoundOpen(**(whole | {"recovered": RoundCommit(**RECORD)})).recovered
    with pytest.raises(ValidationError):
        RoundOpen(**(whole | {"recovered": RoundCommit(**(RECORD | wrong))}))


@pytest.mark.parametrize("fates", [{"late": ("a",)}, {"lost": {"a": "gone"}}, {"late": ("b",), "lost": {"b": "gone"}}])
def test_nobody_has_contributed_been_late_and_been_lost_at_once(fates: dict[str, Any]) -> None:
    contribution = ContributionRef(weight=1.0, blobs=(), values={})
    close = {
        **ROUND,
        "contributions": {"a": contribution},
        "signatures": {},
        "late": (),
        "lost": {},
        "refused": {"a": "x"},
        "seconds": 0.0,
    }
    assert RoundClose(**close)
    for kind, fields in ((RoundClose, close), (RoundCommit, RECORD)):
        with pytest.raises(ValidationError):
            kind(**(fields | fates))


def test_a_vote_is_for_a_round_of_its_plan_and_told_under_its_model() -> None:
    vote = AcceptedVote(plan=RoundPlanMessage(**PLAN), record=RoundCommit(**RECORD))
    assert Promise(term=1, records={}, accepted={"m": vote}).accepted == {"m": vote}
    with pytest.raises(ValidationError):
        Promise(term=1, records={}, accepted={"n": vote})
    for wrong in ({"model": "n"}, {"key": "other"}, {"rounds": 7}):
        with pytest.raises(ValidationError):
            AcceptedVote(plan=RoundPlanMessage(**PLAN), record=RoundCommit(**(RECORD | wrong)))


def test_rounds_are_requested_by_their_sender() -> None:
    def decoded(sender: str) -> Message:
        fields = (VERSION, "rounds_request", "run", sender, 1, 1, {"plan": PLAN | {"given": None}, "after": 0})
        return decode([b"rounds/", msgpack.packb(fields)]).message

    assert decoded("guest") == RoundsRequest(plan=RoundPlanMessage(**PLAN))
    with pytest.raises(WireError, match="another author"):
        decoded("ghost")


def test_a_record_comes_back_from_disk_as_it_was() -> None:
    votes = {"a": bytes(range(192, 256)), "b": b""}
    record = RoundCommit(**(RECORD | {"values": {"a": {"loss": 0.1}}, "late": ("b",), "votes": votes}))
    assert RoundCommit.model_validate_json(record.model_dump_json()) == record
