"""The grant of a group key: its length, its epoch, and that it is not shown."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from protocol.codec import Envelope, decode, encode
from protocol.messages.group_key import GROUP_KEY_BYTES, GroupKeyGrant
from protocol.topics import LARGEST

KEY = bytes(range(GROUP_KEY_BYTES))


@pytest.mark.parametrize("epoch", [1, LARGEST])
def test_a_grant_comes_back(epoch: int) -> None:
    grant = GroupKeyGrant(epoch=epoch, key=KEY)
    frames = encode(Envelope("to/ben/", "r", "anna", 1, 1, grant))
    assert decode(frames).message == grant
    assert KEY in bytes(frames[1]), "a key travels as its bytes"


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": 0}, {"epoch": LARGEST + 1}, {"epoch": 1.0}, {"key": KEY[1:]}, {"key": KEY + b"x"}, {"key": b""},
        {"key": KEY.hex()}, {"key": "k" * GROUP_KEY_BYTES}, {"key": None},
    ],
)  # fmt: skip
def test_an_epoch_counts_from_one_and_a_key_has_32_bytes(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GroupKeyGrant.model_validate({"epoch": 1, "key": KEY} | wrong)


def test_a_key_is_not_shown() -> None:
    grant = GroupKeyGrant(epoch=1, key=KEY)
    for secret in (repr(KEY)[2:-1], KEY.hex()):
        assert secret not in repr(grant) + str(grant)
