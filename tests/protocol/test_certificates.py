"""A record is certified by the valid votes of a majority of the configured members for exactly this record."""

from __future__ import annotations

from hashlib import sha512
from typing import Any

import pytest

from protocol.certificates import is_certified, possibly_committed, record_digest, valid_votes, vote_for
from protocol.messages.round_values import BlobRef
from protocol.messages.rounds import RoundCommit
from protocol.transcript import statement

MEMBERS = ("a", "b", "c", "d", "e")
RECORD = RoundCommit(
    model="m", number=3, term=1, attempt=2, key="k", index=3, rounds=9, leader="a", base="0" * 64,
    outcome=BlobRef(digest="1" * 64, size=7), transcript="2" * 64,
    weights={"a": 1.0, "b": 2.0}, values={"a": {"x": 1.0}}, late=("c",), lost={"d": "left"}, refused={}, seconds=0.5,
)  # fmt: skip


def signed(name: str, said: bytes) -> bytes:
    """A signature that only the test's verifier knows."""
    return sha512(name.encode() + said).digest()


def verify(name: str, said: bytes, signature: bytes) -> bool:
    return signature == signed(name, said)


def voted(names: str, record: RoundCommit = RECORD) -> RoundCommit:
    said = statement("run", vote_for(record))
    return record.model_copy(update={"votes": {name: signed(name, said) for name in names}})


@pytest.mark.parametrize(("voters", "certified"), [("ab", False), ("abc", True), ("cde", True), ("abxyz", False)])
def test_a_majority_of_the_members_certifies(voters: str, *, certified: bool) -> None:
    assert is_certified("run", voted(voters), MEMBERS, 3, verify) is certified


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 4}, {"term": 2}, {"attempt": 3}, {"model": "n"}, {"base": "9" * 64}, {"transcript": "9" * 64},
        {"outcome": BlobRef(digest="9" * 64, size=7)}, {"weights": {"a": 1.0, "b": 2.5}}, {"values": {}}, {"late": ()},
        {"lost": {}}, {"refused": {"c": "no"}}, {"leader": "b"}, {"seconds": 1.0}, {"index": 4}, {"key": "l"},
    ],
)  # fmt: skip
def test_votes_are_for_one_record(changes: dict[str, Any]) -> None:
    assert not is_certified("run", voted("abcde").model_copy(update=changes), MEMBERS, 3, verify)
    assert not is_certified("other", voted("abcde"), MEMBERS, 3, verify)


def test_what_the_leader_remarks_is_not_voted_on() -> None:
    remarked = voted("abc").model_copy(update={"remarks": {"d": "it computed another aggregate"}})
    assert is_certified("run", remarked, MEMBERS, 3, verify)
    assert record_digest(remarked) == record_digest(RECORD)


def test_a_false_vote_is_left_out() -> None:
    record = voted("abc")
    forged = record.model_copy(update={"votes": record.votes | {"b": record.votes["a"]}})
    assert valid_votes("run", forged, MEMBERS, verify).keys() == {"a", "c"}


@pytest.mark.parametrize(
    ("votes", "absent", "possible"), [(3, 0, True), (2, 0, False), (1, 2, True), (1, 1, False), (0, 3, True)]
)
def test_what_too_few_can_have_voted_for_was_not_committed(votes: int, absent: int, *, possible: bool) -> None:
    assert possibly_committed(votes, absent, 3) is possible
