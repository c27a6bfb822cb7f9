"""Who is left out for an accusation: each accuser is heard once, and one of two has lied."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.machines.accusations import Accusations, liars
from protocol.machines.events import CheckShard, ShardChecked
from protocol.messages.round_values import BlobRef
from protocol.messages.rounds import FalseShard, ShardReduced

ROUND: dict[str, Any] = {"model": "m", "number": 1, "term": 1, "attempt": 1}
REDUCED = ShardReduced(**ROUND, transcript="1" * 64, shard=BlobRef(digest="2" * 64, size=8))


def accusation(owner: str) -> FalseShard:
    return FalseShard(**ROUND, owner=owner, reduced=REDUCED, chunk=3)


def test_each_accuser_is_heard_once_and_of_owners_only() -> None:
    accusations = Accusations("a", {"a", "b"})
    assert accusations.hear("c", accusation("b")) == [CheckShard("c", accusation("b"))]
    assert accusations.hear("c", accusation("a")) == []
    assert accusations.hear("d", accusation("c")) == []
    assert accusations.hear("a", accusation("b")) == []
    assert accusations.hear("b", accusation("a")) == [CheckShard("b", accusation("a"))]


@pytest.mark.parametrize(("is_false", "names"), [(True, {"b"}), (False, {"c"}), (None, set())])
def test_the_chunk_says_who_lies(is_false: bool | None, names: set[str]) -> None:
    assert liars(ShardChecked("c", accusation("b"), is_false)).keys() == names
