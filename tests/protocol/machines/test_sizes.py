"""Plans and records are bounded so that whatever a member has voted for fits into its promise."""

from __future__ import annotations

from typing import Any

import pytest

from protocol import topics
from protocol.codec import Envelope, encode
from protocol.machines.sizes import (
    MAX_PLAN_BYTES,
    MAX_VALUES_BYTES,
    plan_objection,
    record_objection,
    truncated,
    values_objection,
)
from protocol.messages import Message
from protocol.messages.base import MAX_VALUES, SIGNATURE_BYTES
from protocol.messages.election import AcceptedVote, LeaderAnnouncement, Promise
from protocol.messages.round_values import BlobRef, RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundOpen
from protocol.topics import LARGEST

BLOB = BlobRef(digest="ab" * 32, size=LARGEST)
PLAN = RoundPlanMessage(key="k" * 128, requester="g", model="m", task="t", rounds=9, federation="{}", options={})


def largest_plan(model: str) -> RoundPlanMessage:
    """The largest plan that is taken in."""
    plan = PLAN.model_copy(update={"model": model, "requester": "g" * 32, "task": "t" * 64})
    options = {str(number): "x" * (1 << size) for number, size in enumerate(range(14, -1, -1))}
    chosen: dict[str, str] = {}
    for name, text in options.items():
        if not plan_objection(plan.model_copy(update={"options": {**chosen, name: text}})):
            chosen[name] = text
    return plan.model_copy(update={"options": chosen})


def largest_values(members: int) -> dict[str, float]:
    """The largest values of a contributor that are taken in."""
    values: dict[str, float] = {}
    for number in range(MAX_VALUES):
        label = f"{number}".ljust(64, "\U0001f600")
        if values_objection({**values, label: 0.0}, members):
            break
        values[label] = 0.0
    return values


def largest_record(model: str, members: int) -> RoundCommit:
    """The largest record that is taken in: all have contributed, and the leader has refused whom it could."""
    names = [f"{number}".ljust(32, "n") for number in range(members)]
    values = largest_values(members)
    record = RoundCommit(
        model=model, number=1, term=LARGEST, attempt=LARGEST, key="k" * 128, index=1, rounds=9, leader=names[0],
        base=BLOB.digest, outcome=BLOB, transcript=BLOB.digest, weights=dict.fromkeys(names, 1.0),
        values=dict.fromkeys(names, values), late=(), lost={}, refused={}, seconds=1.0,
        votes=dict.fromkeys(names, bytes(SIGNATURE_BYTES)),
    )  # fmt: skip
    for field in ("refused", "remarks"):
        for number, name in enumerate(names):
            reasons = {**getattr(record, field), name: "\U0001f600" * (500 if number < 8 else 20)}
            larger = record.model_copy(update={field: reasons})
            if record_objection(larger, members):
                break
            record = larger
    return record


@pytest.mark.parametrize(("members", "models"), [(1, 3), (3, 3), (5, 3), (24, 3), (64, 2), (128, 1)])
def test_the_largest_that_is_voted_for_can_be_said_later(members: int, models: int) -> None:
    names = tuple("mnopq"[:models])
    records = {model: largest_record(model, members) for model in names}
    plans = {model: largest_plan(model) for model in names}
    assert not any(map(plan_objection, plans.values()))
    assert all(values_objection({**values, "x" * 64: 0.0, "y" * 64: 0.0, "z" * 64: 0.0, "u" * 64: 0.0}, members)
               for record in records.values() for values in record.values.values())  # fmt: skip
    accepted = {model: AcceptedVote(plan=plans[model], record=records[model]) for model in names}
    configured = tuple(sorted(records["m"].weights))
    opened = RoundOpen(
        model="m", number=2, term=LARGEST, attempt=LARGEST, index=2, plan=plans["m"], records=records, base=BLOB,
        members=configured, contributors=(),
        recovered=records["m"].model_copy(update={"number": 2, "index": 2}),
    )  # fmt: skip
    messages: list[Message] = [
        Promise(term=LARGEST, records=records, accepted=accepted), opened,
        LeaderAnnouncement(term=LARGEST, attempt=LARGEST, records=records),
    ]  # fmt: skip
    for message in messages:
        topic = topics.ROUNDS if message.kind != "promise" else topics.inbox("n" * 32)
        encode(Envelope(topic, "r" * 64, "n" * 32, LARGEST, LARGEST, message), "raw")


@pytest.mark.parametrize("size", [MAX_PLAN_BYTES, 8 * MAX_PLAN_BYTES])
def test_a_plan_that_is_too_large_is_named_so(size: int) -> None:
    assert not plan_objection(PLAN)
    assert f"{MAX_PLAN_BYTES} are the most" in plan_objection(PLAN.model_copy(update={"options": {"x": "x" * size}}))


def test_contributors_share_what_there_is_room_for() -> None:
    values = {f"value {number}": 0.0 for number in range(100)}
    assert not values_objection(values, 5)
    assert "of one of 40 members" in values_objection(values, 40)
    assert MAX_VALUES_BYTES // 5 >= 4096


REASONS = {f"n{number}": "x" * 500 for number in range(99)}


@pytest.mark.parametrize("changed", [
    {"values": {"a": {f"{number}".ljust(64): 0.0 for number in range(256)}}}, {"remarks": REASONS},
    {"refused": REASONS}, {"lost": REASONS}, {"votes": dict.fromkeys("abcd", b"")},
])  # fmt: skip
def test_whatever_makes_a_record_too_large_is_found(changed: dict[str, Any]) -> None:
    record = RoundCommit(
        model="m", number=1, term=1, attempt=1, key="k", index=1, rounds=9, leader="a", base=BLOB.digest, outcome=BLOB,
        transcript=BLOB.digest, weights={"a": 1.0}, values={}, late=(), lost={}, refused={}, seconds=1.0,
    )  # fmt: skip
    assert not record_objection(record, 3)
    assert record_objection(record.model_copy(update=changed), 3)


@pytest.mark.parametrize("count", [1, 5, 16, 256])
def test_reasons_are_cut_to_their_part(count: int) -> None:
    cut = truncated({f"n{number}": "\U0001f600" * 600 for number in range(count)})
    assert sum(len(reason.encode()) for reason in cut.values()) <= max(4096, 80 * count)
    assert all(0 < len(reason) <= 500 for reason in cut.values())
    assert truncated({"a": "plain", "b": "words"}) == {"a": "plain", "b": "words"}
