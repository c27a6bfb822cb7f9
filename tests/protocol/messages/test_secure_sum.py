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
REST: dict[str, Any] = {"weight": 1.0, "values": {}}

OPAQUE: list[tuple[type[Message], str, dict[str, Any], int, int]] = [
    (KeyAdvertisement, "public_keys", REST, KEYS_BYTES, 256),
    (EncryptedShare, "ciphertext", {}, SEALED_BYTES, 1024),
    (ConsistencyCheck, "signature", {}, VOTE_BYTES, 128),
    (ShareReveal, "shares", {}, reveal_bytes(MAX_MEMBERS), 48 * 1024),
]
"""Kind, field, what else it says, how many bytes a round needs at most, and how many are accepted."""


@pytest.mark.parametrize(("kind", "field", "rest", "needed", "most"), OPAQUE)
def test_what_a_round_needs_is_accepted_and_comes_back(
    kind: type[Message], field: str, rest: dict[str, Any], needed: int, most: int
) -> None:
    for count in (1, needed, most):
        said = kind(**ROUND, **rest, **{field: bytes(index % 256 for index in range(count)).hex()})
        arrived = decode([bytes(frame) for frame in encode(Envelope("to/a/", "r", "b", 1, 1, said))]).message
        assert arrived == said
    with pytest.raises(ValidationError):
        kind(**ROUND, **rest, **{field: "00" * (most + 1)})


@pytest.mark.parametrize(("kind", "field", "rest"), [row[:3] for row in OPAQUE])
@pytest.mark.parametrize("wrong", ["", "0", "abc", "AB", "0x", "g0", "ab\n", " ab", b"ab", 7, None])
def test_bytes_are_lower_case_hexadecimal_digits_in_pairs(
    kind: type[Message], field: str, rest: dict[str, Any], wrong: Any
) -> None:
    with pytest.raises(ValidationError):
        kind(**ROUND, **rest, **{field: wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": 0.0}, {"weight": -1.0}, {"weight": math.nan}, {"weight": math.inf}, {"weight": "1"},
        {"values": {"": 1.0}}, {"values": {"loss": "low"}}, {"values": {f"v{index}": 0.0 for index in range(257)}},
        {"attempt": 0}, {"number": 0}, {"model": "M"},
    ],
)  # fmt: skip
def test_an_advert_is_exact(wrong: dict[str, Any]) -> None:
    said = {**ROUND, "public_keys": "00", "weight": 2, "values": {"loss": math.nan}}
    assert KeyAdvertisement(**said).weight == 2.0
    with pytest.raises(ValidationError):
        KeyAdvertisement(**(said | wrong))


def test_at_most_256_share() -> None:
    names = tuple(f"n{index}" for index in range(MAX_MEMBERS))
    assert ShareDistribution(**ROUND, sharers=names).sharers == names
    for wrong in ((*names, "more"), ("A",), ("",), "anna", None):
        with pytest.raises(ValidationError):
            ShareDistribution(**(ROUND | {"names": wrong}))


def test_to_hold_all_shares_says_nothing_of_them() -> None:
    assert SharesReceived.model_fields.keys() == ROUND.keys()
    with pytest.raises(ValidationError):
        SharesReceived(**(ROUND | {"ciphertext": "00"}))


def test_all_of_them_are_numbered_and_about_one_attempt() -> None:
    for kind in SecureSumMessage.__args__:
        assert kind.numbered
        assert ROUND.keys() <= kind.model_fields.keys()
