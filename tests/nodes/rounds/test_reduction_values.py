"""A member that lies about its share of a result is found out, proven and left out; so is one that accuses falsely."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fednet.federated.hash_tree import leaf
from fednet.federated.state_file import Layout
from nodes.rounds.reduction import RoundReduction
from nodes.rounds.reduction_values import ClosedContributions, ShardDiffers
from protocol.messages.round_values import BlobRef
from protocol.messages.rounds import FalseShard, ShardReduced

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
FIVE = ("a", "b", "c", "d", "e")
SIZE = 4
"""Bytes of a chunk: the last one of every share holds a value."""


@pytest.fixture
def lies(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A member changes a value in the last chunk of its share, and serves and announces that."""

    def lie(liar: str) -> None:
        reduced = RoundReduction._reduced

        async def lying(self: Any, closed: Any, indices: Any, write: Any = None) -> dict[int, bytes]:
            if self._context.name != liar or write is None:
                return await reduced(self, closed, indices, *([write] if write else []))
            false: dict[int, bytes] = {}

            def change(offset: int, chunk: Any) -> None:
                index = offset // SIZE
                if index == indices[-1]:
                    chunk = struct.pack("<f", 666.0)
                    false[index] = leaf(chunk)
                write(offset, chunk)

            leaves = await reduced(self, closed, indices, change)
            return {**leaves, **false}

        monkeypatch.setattr(RoundReduction, "_reduced", lying)

    return lie


def outsiders(group: Any) -> tuple[str, str]:
    """The leader, and another member."""
    leader = group.leader()
    return leader, next(name for name in FIVE if name != leader)


@pytest.mark.parametrize("federation", [{}, {"secure": {"clip": 64.0}}], ids=["plain", "secure"])
def test_who_reduces_falsely_is_proven_to_and_left_out(
    tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None], lies: Any, federation: dict[str, Any]
) -> None:
    chunks_of(SIZE)

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        await group.run_rounds(transport="sharded")
        liar = outsiders(group)[1]
        lies(liar)
        (record,) = await group.run_rounds("again", audit=1.0, **federation)
        assert set(record.weights) == set(FIVE) - {liar}
        assert record.lost == {liar: "its share of the result is false"}

    tell(story)


def test_without_audits_a_false_share_is_adopted_by_all(
    tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None], lies: Any
) -> None:
    chunks_of(SIZE)

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        lies("e")
        records = await group.run_rounds(transport="sharded", audit=0.0)
        assert set(records[0].weights) == set(FIVE)
        assert [record.digest for record in records] != group.recomputed(records)

    tell(story)


def test_who_calls_a_true_share_false_is_left_out(
    tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks_of(SIZE)

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        await group.run_rounds(transport="sharded")
        _, accuser = outsiders(group)
        accused = next(name for name in FIVE if name not in outsiders(group))
        check = RoundReduction._check

        async def accusing(self: Any, closed: Any, leaves: Any) -> None:
            if self._context.name == accuser:
                raise ShardDiffers(accused, self._indices(accused)[0])
            await check(self, closed, leaves)

        monkeypatch.setattr(RoundReduction, "_check", accusing)
        records = await group.run_rounds("again", transport="sharded")
        assert set(records[0].weights) == set(FIVE) - {accuser}
        assert records[0].lost == {accuser: f"it called the share of {accused} false, which is right"}

    tell(story)


@pytest.mark.parametrize("audit", [0.0, 0.5, 1.0])
def test_a_coin_of_its_own_chooses_what_a_member_reduces_again(
    tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, audit: float
) -> None:
    chunks_of(8)
    again = 0
    check = RoundReduction._check

    async def counting(self: Any, closed: Any, leaves: Any) -> None:
        nonlocal again
        again += len(leaves)
        await check(self, closed, leaves)

    monkeypatch.setattr(RoundReduction, "_check", counting)

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        records = await group.run_rounds(rounds=3, transport="sharded", audit=audit)
        await group.require_converged(records, transport="sharded")
        size = group.members["a"].service.store.checkpoints["walk"].version.outcome.size
        all_of_them = 3 * (len(FIVE) - 1) * -(-size // 8)
        assert again == audit * all_of_them or (audit == 0.5 and 0 < again < all_of_them)

    tell(story)


@pytest.mark.parametrize(("owner", "size", "is_false"), [("b", 1, True), ("b", 1 << 62, True), ("a", 1, False)])
def test_a_share_of_another_size_is_false_without_a_look_and_nobody_judges_itself(
    owner: str, size: int, *, is_false: bool
) -> None:
    attempt: dict[str, Any] = {"model": "m", "number": 1, "term": 1, "attempt": 1}
    context: Any = SimpleNamespace(name="a")
    statements: Any = SimpleNamespace(has_reduced=lambda _name, _reduced: True)
    opened: Any = SimpleNamespace(members=("a", "b"))
    layout = Layout.of({"w": (torch.float32, (1 << 19,))})
    judge = RoundReduction(context, statements, opened, layout, {}, sharded=True, audit=0.0)
    reduced = ShardReduced(**attempt, transcript="1" * 64, shard=BlobRef(digest="2" * 64, size=size))
    accusation = FalseShard(**attempt, owner=owner, reduced=reduced, chunk="ab".index(owner))
    closed = ClosedContributions(None, {}, "1" * 64, {})
    assert asyncio.run(judge.is_false(closed, accusation)) is is_false
