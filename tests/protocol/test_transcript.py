"""A statement covers every field but the signature, and a transcript everything that was said before it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage
from protocol.messages.rounds import ContributionAvailable, RoundOpen
from protocol.messages.secure_sum import PUBLIC_KEYS_BYTES, KeyAdvertisement
from protocol.transcript import is_same, opening_digest, statement, transcript

ROUND: dict[str, Any] = {"model": "m", "number": 1, "term": 1, "attempt": 1}
PLAN = RoundPlanMessage(
    key="k", requester="g", model="m", task="t", rounds=2, federation='{"secure": {"clip": 1.0}}', options={"lr": 0.1}
)
OPENED = RoundOpen(
    **ROUND, index=1, plan=PLAN, records={}, base=BlobRef(digest="0" * 64, size=9), members=("a", "b"),
    contributors=("a", "b"),
)  # fmt: skip


def advertisement(weight: float = 1.0, signature: bytes = b"", **changes: Any) -> KeyAdvertisement:
    fields = {"opening": "0" * 64, "public_keys": bytes(PUBLIC_KEYS_BYTES), "values": {"loss": 0.5}} | changes
    return KeyAdvertisement(**ROUND, weight=weight, signature=signature, **fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 2}, {"term": 2}, {"attempt": 2}, {"index": 2}, {"contributors": ("a",)},
        {"members": ("a", "b", "c")},
        {"base": BlobRef(digest="1" * 64, size=9)},
        {"plan": PLAN.model_copy(update={"federation": '{"secure": {"clip": 2.0}}'})},
        {"plan": PLAN.model_copy(update={"options": {"lr": 0.2}})},
        {"plan": PLAN.model_copy(update={"requester": "h"})},
    ],
)  # fmt: skip
def test_whoever_is_told_another_opening_has_another_digest(changes: dict[str, Any]) -> None:
    assert opening_digest("run", OPENED) == opening_digest("run", OPENED.model_copy())
    assert opening_digest("run", OPENED.model_copy(update=changes)) != opening_digest("run", OPENED)
    assert opening_digest("other", OPENED) != opening_digest("run", OPENED)


@pytest.mark.parametrize(
    "changes", [{"weight": 2.0}, {"values": {}}, {"opening": "1" * 64}, {"public_keys": bytes([1]) * PUBLIC_KEYS_BYTES}]
)
def test_a_statement_covers_all_but_the_signature(changes: dict[str, Any]) -> None:
    said = statement("run", advertisement())
    assert said == statement("run", advertisement(signature=b"s" * 64))
    assert said != statement("run", advertisement(**changes))


def test_leaves_are_not_signed_and_can_be_told_or_not() -> None:
    contribution = ContributionRef(weight=1.0, blobs=(BlobRef(digest="0" * 64, size=9),), values={})
    offer = ContributionAvailable(**ROUND, opening="0" * 64, contribution=contribution)
    assert statement("run", offer) == statement("run", offer.model_copy(update={"leaves": b"l" * 32}))


def test_the_order_of_a_map_does_not_count() -> None:
    one, other = advertisement(values={"a": 1.0, "b": 2.0}), advertisement(values={"b": 2.0, "a": 1.0})
    assert statement("run", one) == statement("run", other)
    assert is_same(one, other)
    assert is_same(advertisement(values={"a": math.nan}), advertisement(values={"a": float("nan")}))
    assert not is_same(one, advertisement(values={"a": 2.0, "b": 1.0}))


def test_a_transcript_covers_the_opening_and_every_answer() -> None:
    answers = {"b": advertisement(2.0, b"b" * 64), "a": advertisement(1.0, b"a" * 64)}
    agreed = transcript("run", "0" * 64, answers)
    assert agreed == transcript("run", "0" * 64, dict(sorted(answers.items())))
    for other in (
        transcript("run", "1" * 64, answers),
        transcript("run", "0" * 64, {"a": answers["a"]}),
        transcript("run", "0" * 64, {"a": answers["b"], "b": answers["a"]}),
        transcript("run", "0" * 64, answers | {"a": advertisement(1.0, b"c" * 64)}),
        transcript("run", "0" * 64, answers | {"a": advertisement(1.5, b"a" * 64)}),
    ):
        assert other != agreed
