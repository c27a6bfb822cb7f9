"""What the messages of an election accept."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from protocol.messages import LeaderAnnouncement, Message, Prepare, Promise, RecordRequest
from protocol.messages.election import AcceptedVote
from protocol.messages.round_values import MAX_MODELS, BlobRef, RoundPlanMessage
from protocol.messages.rounds import RoundCommit


def record(model: str) -> RoundCommit:
    return RoundCommit(
        model=model, number=1, term=1, attempt=1, key="k", index=1, rounds=1, leader="a", base="0" * 64,
        outcome=BlobRef(digest="0123456789abcdef" * 4, size=1), transcript="1" * 64,
        weights={}, values={}, late=(), lost={}, refused={}, seconds=0.0,
    )  # fmt: skip


def vote(model: str) -> AcceptedVote:
    plan = RoundPlanMessage(key="k", requester="g", model=model, task="t", rounds=1, federation="{}", options={})
    return AcceptedVote(plan=plan, record=record(model))


RECORDS = {model: record(model) for model in (f"m{index}" for index in range(MAX_MODELS))}


def test_there_are_at_most_16_models() -> None:
    votes = {model: vote(model) for model in RECORDS}
    assert Promise(term=1, records=RECORDS, accepted=votes).accepted == votes
    more = record("more")
    for wrong in (
        {"records": RECORDS | {"more": more}}, {"accepted": votes | {"more": vote("more")}}, {"records": {"m1": more}}
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            Promise.model_validate({"term": 1, "records": RECORDS, "accepted": votes} | wrong)
    with pytest.raises(ValidationError):
        LeaderAnnouncement(term=1, attempt=0, records=RECORDS | {"more": more})


@pytest.mark.parametrize("wrong", [-1, 0.5, None, True, 2**63, "1"])
@pytest.mark.parametrize(
    ("kind", "fields", "count"),
    [
        (Prepare, {"term": 1}, "term"),
        (Promise, {"term": 1, "records": {}, "accepted": {}}, "term"),
        (LeaderAnnouncement, {"term": 1, "attempt": 0, "records": {}}, "attempt"),
        (RecordRequest, {"model": "m", "after": 0}, "after"),
    ],
)
def test_numbers_are_counts(kind: type[Message], fields: dict[str, Any], count: str, wrong: Any) -> None:
    assert kind(**fields)
    with pytest.raises(ValidationError):
        kind(**(fields | {count: wrong}))


def test_a_vote_is_for_a_whole_record() -> None:
    wrongs: list[dict[str, Any]] = [{"plan": None}, {"record": None}, {"record": {}}, {"more": 1}]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            AcceptedVote(**(dict(vote("m")) | wrong))
