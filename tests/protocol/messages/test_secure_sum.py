"""What the messages of a secure round accept."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from fednet.privacy.consistency_check import VOTE_BYTES
from fednet.privacy.secure_sum_setup import KEYS_BYTES
from fednet.privacy.shares import SEALED_BYTES
from fednet.privacy.unmasking import reveal_bytes
from protocol.codec import Envelope, decode, encode
from protocol.messages import (
    ConsistencyCheck,
    EncryptedShare,
    KeyAdvertisement,
    Message,
    ShareDistribution,
    ShareReveal,
    SharesReceived,
)
from protocol.messages.base import MAX_MEMBERS
from protocol.messages.secure_sum import SecureSumMessage

ROUND: dict[str, Any] = {"model": "m", "number": 1, "term": 1, "attempt": 1}
REST: dict[str, Any] = {"opening": "0" * 64, "weight": 1.0, "values": {}}

OPAQUE: list[tuple[type[Message], str, dict[str, Any], int]] = [
    (KeyAdvertisement, "public_keys", REST, KEYS_BYTES),
    (EncryptedShare, "ciphertext", {}, SEALED_BYTES),
    (ConsistencyCheck, "signature", {}, VOTE_BYTES),
    (ShareReveal, "shares", {}, reveal_bytes(1)),
    (ShareReveal, "shares", {}, reveal_bytes(MAX_MEMBERS)),
]
"""Kind, field, other fields, and how many bytes `fednet.privacy` makes."""


@pytest.mark.parametrize(("kind", "field", "rest", "count"), OPAQUE)
def test_the_bytes_of_a_secure_sum_have_their_exact_length(
    kind: type[Message], field: str, rest: dict[str, Any], count: int
) -> None:
    sent = kind(**ROUND, **rest, **{field: bytes(index % 256 for index in range(count))})
    topic = "to/a/" if kind is EncryptedShare else "rounds/"
    arrived = decode([bytes(frame) for frame in encode(Envelope(topic, "r", "b", 1, 1, sent))]).message
    assert arrived == sent
    for wrong in (0, 1, count - 1, count + 1, reveal_bytes(MAX_MEMBERS + 1)):
        with pytest.raises(ValidationError):
            kind(**ROUND, **rest, **{field: bytes(wrong)})


@pytest.mark.parametrize(("kind", "field", "rest", "count"), OPAQUE)
def test_bytes_are_not_text(kind: type[Message], field: str, rest: dict[str, Any], count: int) -> None:
    for wrong in ("x" * count, "00" * count, list(bytes(count)), count, None):
        with pytest.raises(ValidationError):
            kind(**ROUND, **rest, **{field: wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": 0.0}, {"weight": -1.0}, {"weight": math.nan}, {"weight": math.inf}, {"weight": "1"},
        {"values": {"": 1.0}}, {"values": {"loss": "low"}}, {"values": {f"v{index}": 0.0 for index in range(257)}},
        {"attempt": 0}, {"number": 0}, {"model": "M"}, {"signature": b"short"}, {"opening": "0"},
    ],
)  # fmt: skip
def test_a_key_advertisement_is_exact(wrong: dict[str, Any]) -> None:
    fields = {**ROUND, **REST, "public_keys": bytes(KEYS_BYTES), "weight": 2, "values": {"loss": math.nan}}
    assert KeyAdvertisement(**fields).weight == 2.0
    with pytest.raises(ValidationError):
        KeyAdvertisement(**(fields | wrong))


def test_at_most_256_share() -> None:
    keys = KeyAdvertisement(**ROUND, **REST, public_keys=bytes(KEYS_BYTES))
    sharers = {f"n{index}": keys for index in range(MAX_MEMBERS)}
    assert ShareDistribution(**ROUND, advertisements=sharers).advertisements == sharers
    for wrong in (sharers | {"more": keys}, {"A": keys}, {"": keys}, {"a": None}, ("anna",), None):
        with pytest.raises(ValidationError):
            ShareDistribution(**(ROUND | {"advertisements": wrong}))


def test_a_receipt_of_shares_has_no_fields_of_its_own() -> None:
    assert SharesReceived.model_fields.keys() == ROUND.keys()
    with pytest.raises(ValidationError):
        SharesReceived(**(ROUND | {"ciphertext": bytes(SEALED_BYTES)}))


def test_all_of_them_are_numbered_and_about_one_attempt() -> None:
    for kind in SecureSumMessage.__args__:
        assert kind.numbered
        assert ROUND.keys() <= kind.model_fields.keys()
