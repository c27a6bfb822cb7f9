"""Streams of many small chunks end as one process would, whoever lies or dies on the way, and nothing is held twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from nodes.blob_store import Blob
from nodes.rounds import reduction
from nodes.transport.memory import Faults
from protocol.messages import ChunkRequest
from protocol.messages.rounds import ContributionAvailable, ShardReduced
from tests.cases import covering

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
FIVE = ("a", "b", "c", "d", "e")
FEDERATIONS: list[dict[str, Any]] = [
    {"transport": "mesh"},
    {"transport": "sharded"},
    {"transport": "sharded", "rule": {"kind": "median"}, "server": {"kind": "adam"}},
    {"transport": "sharded", "rule": {"kind": "trimmed-mean", "trim": 0.2}},
    {"rule": {"kind": "krum", "byzantine": 1, "keep": 2}},
]


@pytest.mark.parametrize(("size", "federation"), covering([8, 24, 64], FEDERATIONS, together=1))
def test_any_chunks_give_the_bits_of_one_process(
    tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None], size: int, federation: dict[str, Any]
) -> None:
    chunks_of(size)

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        records = await group.run_rounds(rounds=2, **federation)
        assert [len(record.weights) for record in records] == [5, 5]
        await group.require_converged(records, **federation)

    tell(story)


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
def test_streams_survive_faults_of_the_network(
    tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None], transport: str
) -> None:
    chunks_of(16)

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        records = await group.run_rounds(rounds=2, transport=transport)
        await group.require_converged(records, 30)

    tell(story, Faults(drop=0.1, duplicate=0.1, delay=(0.0, 0.1)))


@pytest.mark.parametrize(
    ("transport", "victim", "number"), covering(["mesh", "sharded"], ["a", "b", "e"], [1, 2, 5, 9, 14, 20])
)
def test_a_member_that_dies_in_a_stream_is_left_out(
    tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None], *, transport: str, victim: str, number: int
) -> None:
    """It dies as it sends its n-th chunk of the round."""
    chunks_of(16)

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        group.crash_on(victim, "chunk", sent=False, number=number)
        records = await group.run_rounds(rounds=2, transport=transport)
        assert all(set(record.weights) >= set(FIVE) - {victim} for record in records)
        await group.require_converged(records, 30)

    tell(story)


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
def test_a_member_whose_chunks_are_false_is_named_and_left_out(
    tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None], transport: str
) -> None:
    chunks_of(16)

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        b = group.members["b"]
        keep = b.blob_store.keep
        b.blob_store.keep = lambda blob: keep(Blob(blob.tree, lambda _offset, count: bytes(count)))
        (record,) = await group.run_rounds(transport=transport)
        assert set(record.weights) == {"a", "c"}
        assert "b: sent other bytes" in record.refused["b"]
        others = [member.node.counts["false chunk"] for name, member in group.members.items() if name != "b"]
        assert all(others)

    tell(story)


def test_a_member_asks_for_its_chunks_only(tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None]) -> None:
    """In a sharded round about twice the model comes to a site, however many contribute."""
    chunks_of(8)

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        asked: dict[str, int] = {}
        for name, member in group.members.items():
            tell_ = member.node.tell

            def counting(to: str, message: Any, name: str = name, tell_: Any = tell_) -> None:
                if isinstance(message, ChunkRequest):
                    asked[name] = asked.get(name, 0) + sum(count for _, count in message.ranges if count == 8)
                tell_(to, message)

            member.node.tell = counting
        (record,) = await group.run_rounds(audit=0.0)
        size = group.members["a"].service.store.checkpoints["walk"].version.outcome.size
        assert set(record.weights) == set(FIVE)
        assert all(count <= 2 * size for count in asked.values()), (asked, size)

    tell(story)


@pytest.mark.parametrize("liar", [None, "b"])
def test_leaves_are_told_and_those_of_a_liar_are_fetched(
    tell: Tell, make_group: MakeGroup, chunks_of: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, *, liar: str
) -> None:
    """Who tells false leaves and serves true chunks has only made the others ask."""
    chunks_of(8)

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        asked = set[tuple[str, str]]()
        for name, member in group.members.items():
            tell_, publish = member.node.tell, member.node.publish

            def telling(to: str, message: Any, name: str = name, tell_: Any = tell_) -> None:
                if isinstance(message, ChunkRequest) and any(offset == 0 for offset, _ in message.ranges):
                    asked.add((name, to))
                tell_(to, message)

            def publishing(topic: str, message: Any, publish: Any = publish) -> None:
                if isinstance(message, ContributionAvailable | ShardReduced):
                    message = message.model_copy(update={"leaves": message.leaves[::-1]})
                publish(topic, message)

            monkeypatch.setattr(member.node, "tell", telling)
            if name == liar:
                monkeypatch.setattr(member.node, "publish", publishing)
        records = await group.run_rounds(audit=1.0)
        await group.require_converged(records)
        assert asked == ({("a", "b"), ("c", "b")} if liar else set())

    tell(story)


def test_own_contribution_is_served_until_the_commit_only(
    tell: Tell, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []
    release = reduction.RoundReduction.release_contribution

    def releasing(self: reduction.RoundReduction) -> None:
        released.append(self._context.name)
        release(self)

    monkeypatch.setattr(reduction.RoundReduction, "release_contribution", releasing)

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        (record,) = await group.run_rounds()
        await asyncio.sleep(1)
        assert sorted(released) == ["a", "b", "c"]
        for member in group.members.values():
            assert member.blob_store.has(record.digest)
            assert len(member.blob_store._kept) <= 3, "the checkpoint, and shards of it"
            state = member.service.store.checkpoints["walk"].state
            assert torch.isfinite(state["w"]).all()

    tell(story)
