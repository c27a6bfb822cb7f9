"""What the values in messages of rounds accept."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from protocol.messages.round_values import BlobRef, RoundPlanMessage, Signature

DIGEST = "0123456789abcdef" * 4
BLOB = BlobRef(digest=DIGEST, size=1)
PLAN: dict[str, Any] = {
    "key": "k", "requester": "guest", "model": "m", "task": "train", "rounds": 1, "federation": "{}", "options": {},
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
        {"given": BLOB, "rounds": 2},
    ],
)  # fmt: skip
def test_a_plan_is_exact(wrong: dict[str, Any]) -> None:
    assert RoundPlanMessage(**PLAN).given is None
    with pytest.raises(ValidationError):
        RoundPlanMessage(**(PLAN | wrong))


@pytest.mark.parametrize(("count", "valid"), [(0, True), (64, True), (1, False), (63, False), (65, False)])
def test_a_signature_has_64_bytes_or_none(count: int, *, valid: bool) -> None:
    adapter = TypeAdapter(Signature)
    if valid:
        assert adapter.validate_python(bytes(count)) == bytes(count)
    else:
        with pytest.raises(ValidationError):
            adapter.validate_python(bytes(count))
