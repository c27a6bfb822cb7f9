"""What each kind of message may say about an attempt, by its opening and its sender."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.consistency import OF_CONTRIBUTORS, OF_LEADER, OF_MEMBERS, inconsistency
from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage
from protocol.messages.rounds import (
    ContributionAvailable,
    ContributionReceipt,
    FalseShard,
    ModelAdopted,
    RoundClose,
    RoundCommit,
    RoundDecline,
    RoundMessage,
    RoundOpen,
    RoundVote,
    ShardReduced,
)
from protocol.messages.secure_sum import (
    AGREEMENT_BYTES,
    CIPHERTEXT_BYTES,
    PUBLIC_KEYS_BYTES,
    SHARE_BYTES,
    ConsistencyCheck,
    EncryptedShare,
    Equivocation,
    KeyAdvertisement,
    ShareDistribution,
    ShareReveal,
    SharesReceived,
)

BLOB = BlobRef(digest="ab" * 32, size=8)
PLAN = RoundPlanMessage(
    key="k", requester="guest", model="m", task="t", rounds=2, federation="{}", options={}
)  # fmt: skip
ROUND: dict[str, Any] = {"model": "m", "number": 5, "term": 1, "attempt": 3}
RECORD: dict[str, Any] = {
    "key": "k", "index": 2, "rounds": 2, "leader": "a", "base": "0" * 64, "outcome": BLOB,
    "transcript": "1" * 64, "weights": {"b": 1.0}, "values": {},
    "late": ("c",), "lost": {}, "refused": {}, "seconds": 1.0,
}  # fmt: skip
OPENED = RoundOpen(
    **ROUND, index=2, plan=PLAN, records={"m": RoundCommit(**(ROUND | RECORD | {"number": 4, "index": 1}))}, base=BLOB,
    members=("a", "b", "c", "d"), contributors=("b", "c"),
)  # fmt: skip
ADVERTISEMENT = KeyAdvertisement(
    **ROUND, opening="0" * 64, public_keys=bytes(PUBLIC_KEYS_BYTES), weight=1.0, values={}
)  # fmt: skip
REDUCED = ShardReduced(**ROUND, transcript="1" * 64, shard=BLOB)
CONTRIBUTION = ContributionRef(weight=1.0, blobs=(BLOB,), values={})
CLOSE: dict[str, Any] = {
    "contributions": {"b": CONTRIBUTION},
    "signatures": {"b": b""},
    "late": ("c",),
    "lost": {},
    "refused": {},
    "seconds": 1.0,
}
FIELDS: dict[type[RoundMessage], dict[str, Any]] = {
    ContributionAvailable: {"opening": "0" * 64, "contribution": CONTRIBUTION},
    RoundDecline: {"reason": "", "can_vote": True},
    ContributionReceipt: {"contributor": "b"},
    RoundClose: CLOSE,
    ShardReduced: {"transcript": "1" * 64, "shard": BLOB},
    FalseShard: {"owner": "c", "reduced": REDUCED, "chunk": 3},
    RoundVote: {"base": "0" * 64, "outcome": BLOB, "transcript": "1" * 64, "record": "2" * 64},
    RoundCommit: RECORD,
    ModelAdopted: {},
    KeyAdvertisement: dict(ADVERTISEMENT),
    ShareDistribution: {"advertisements": {"b": ADVERTISEMENT, "c": ADVERTISEMENT}},
    Equivocation: {"advertiser": "b", "first": ADVERTISEMENT, "second": ADVERTISEMENT},
    EncryptedShare: {"ciphertext": bytes(CIPHERTEXT_BYTES)},
    SharesReceived: {},
    ConsistencyCheck: {"signature": bytes(64)},
    ShareReveal: {"shares": bytes(AGREEMENT_BYTES + SHARE_BYTES)},
}


def wrong(sender: str, kind: type[RoundMessage], **changes: Any) -> str | None:
    return inconsistency(OPENED, "a", sender, kind(**(FIELDS[kind] | ROUND | changes)))


@pytest.mark.parametrize("kind", FIELDS)
def test_whoever_may_say_it_says_it(kind: type[RoundMessage]) -> None:
    allowed = {*"abcd", "guest"}
    for kinds, names in ((OF_LEADER, {"a"}), (OF_MEMBERS, {*"abcd"}), (OF_CONTRIBUTORS, {"b", "c"})):
        if kind in kinds:
            allowed = names
    assert {name for name in (*"abcd", "guest") if wrong(name, kind) is None} == allowed


@pytest.mark.parametrize("kind", FIELDS)
def test_an_attempt_is_at_one_round(kind: type[RoundMessage]) -> None:
    assert wrong("b", kind, model="other")
    assert wrong("b", kind, number=6)


def test_every_message_about_a_round_is_held_against_its_opening() -> None:
    def kinds(of: type[RoundMessage]) -> set[type[RoundMessage]]:
        return {kind for each in of.__subclasses__() for kind in {each} | kinds(each)}

    assert {kind for kind in kinds(RoundMessage) if kind.__module__.startswith("protocol.")} == {*FIELDS, RoundOpen}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (RoundClose, {"contributions": {"d": CONTRIBUTION}}),
        (RoundClose, {"late": ("zoe",)}),
        (ShareDistribution, {"advertisements": {"d": ADVERTISEMENT}}),
        (Equivocation, {"advertiser": "zoe"}),
        (ContributionReceipt, {"contributor": "zoe"}),
        (FalseShard, {"owner": "zoe"}),
        (RoundCommit, {"key": "other"}),
        (RoundCommit, {"index": 1}),
        (RoundCommit, {"rounds": 3}),
        (RoundCommit, {"weights": {"d": 1.0}}),
    ],
)
def test_what_differs_from_the_opening(kind: type[RoundMessage], changes: dict[str, Any]) -> None:
    assert wrong("a", kind) is None
    assert wrong("a", kind, **changes)


def test_a_record_that_is_forwarded_is_not_the_senders_claim() -> None:
    assert wrong("c", RoundCommit, weights={"d": 1.0}) is None


def test_an_attempt_is_opened_once() -> None:
    assert inconsistency(OPENED, "a", "a", OPENED) is None
    other = OPENED.model_copy(update={"contributors": ("b",)})
    assert inconsistency(OPENED, "a", "a", other) == "opens the same attempt in another way"


def test_a_recovered_record_names_earlier_contributors() -> None:
    record = RoundCommit(**(ROUND | RECORD | {"weights": {"d": 1.0}}))
    recovering = OPENED.model_copy(update={"contributors": (), "recovered": record})
    assert inconsistency(recovering, "a", "a", record) is None
