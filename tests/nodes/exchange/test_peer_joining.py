"""Peers that join late, crash and return: a peer that is behind is told the current offers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from nodes.transport.memory import Faults
from protocol.messages import exchange as wire
from protocol.topics import EXCHANGE
from tests.cases import covering

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]

TROUBLE = Faults(drop=0.1, duplicate=0.05, delay=(0.0, 0.2))
HEAVY = Faults(drop=0.3, duplicate=0.2, delay=(0.0, 0.5))
FOUR = ("a", "b", "c", "d")


def of(origin: str, summary: Any) -> Any:
    """The offers of one origin."""
    return {key: each for key, each in summary.items() if key[0] == origin}


class TestComingBack:
    def test_a_peer_that_returns_publishes_its_offers_again(
        self, tell: Tell, make_group: MakeGroup, restored: Any
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            await group.exchange()
            group.crash("a")
            group.crash("c")
            await asyncio.sleep(10)
            fresh = await group.peer("c")
            await group.peer(
                "a",
                exchanger=restored("a", group.make_offer("a", 41.0, version=7), group.make_offer("a", 42.0, "s1", 7)),
            )
            await asyncio.sleep(10)
            for each in (group.peers["b"], fresh):
                assert each.exchanger.summary()["a", "s0"] == (7, [[41.0] * 4] * 2)
                assert each.exchanger.summary()["a", "s1"] == (7, [[42.0] * 4] * 2)

        tell(story)

    def test_a_peer_that_returns_without_memory_is_accepted(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            for key in ("k1", "k2", "k3"):
                await group.exchange(key)
            group.crash("a")
            await asyncio.sleep(10)
            await group.peer("a")
            await asyncio.sleep(10)
            record = await group.exchange("k4")
            assert record.offered["a"] == {"s0": 1, "s1": 1}
            assert (record.refused, record.lost) == ({}, {})
            held = [group.peers[name].exchanger.summary()["a", "s0"] for name in "bc"]
            assert held[0] == held[1]
            assert held[0][0] == 1

        tell(story)

    def test_an_open_request_is_worked_on_again(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start(seconds=group.slow)
            waiting = asyncio.ensure_future(group.exchange())
            await asyncio.sleep(10)
            group.crash("a")
            await asyncio.sleep(5)
            await group.peer("a", seconds=1.0)
            record = await waiting
            assert list(record.offered) == ["a", "b", "c"]
            assert record.lost == {}

        tell(story)

    def test_peers_that_are_cut_off_are_late_and_have_everything_once_the_cut_heals(
        self, tell: Tell, make_group: MakeGroup
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start(hard_limit=20.0)
            cluster.network.cut("memory://a", "memory://c")
            record = await group.exchange()
            assert (record.late, record.lost) == (("a", "c"), {})
            assert record.absorbed == {"a": ("b",), "b": ("a", "c"), "c": ("b",)}
            cluster.network.heal("memory://a", "memory://c")
            await asyncio.sleep(20)
            summaries = group.summaries()
            assert of("a", summaries["c"]).keys() == {("a", "s0"), ("a", "s1")}
            assert of("c", summaries["a"]).keys() == {("c", "s0"), ("c", "s1")}

        tell(story)


@pytest.mark.parametrize(("faults", "seed"), covering([TROUBLE, HEAVY], range(3), together=1))
def test_after_crashes_and_returns_at_any_moment_all_peers_have_the_same_offers(
    tell: Tell, make_group: MakeGroup, faults: Faults, seed: int
) -> None:
    chance = Random(seed)  # noqa: S311 - a story that can be replayed

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *"abcdef")
        await group.start()
        for number in range(5):
            waiting = asyncio.ensure_future(group.exchange(f"k{number}"))
            for _ in range(chance.randint(0, 2)):
                await asyncio.sleep(chance.uniform(0, 3))
                await change_membership(group)
            assert (await waiting).seconds < 100
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                while not agree(group):  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(1)
        await asyncio.sleep(10)
        assert agree(group)

    def agree(group: Any) -> bool:
        """Whether all have the same offers of every living peer."""
        for origin in group.peers:
            known = [of(origin, summary) for name, summary in group.summaries().items() if name != origin]
            if any(each != known[0] for each in known):
                return False
        return True

    async def change_membership(group: Any) -> None:
        """A peer crashes, as long as enough are left, or comes back without memory."""
        dead = sorted(set(group.names) - group.peers.keys())
        if len(group.peers) > 3 and chance.random() < 0.7:
            group.crash(chance.choice(sorted(group.peers)))
        elif dead:
            await group.peer(chance.choice(dead))

    tell(story, faults, seed)


class TestComingLate:
    def test_a_peer_that_joins_is_told_the_earlier_offers(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.peer("a")
            await group.peer("b")
            await group.add_driver(expected=("a", "b"))
            await group.exchange("k1")
            await group.exchange("k2")
            await group.peer("c")
            await asyncio.sleep(10)
            newcomer = group.peers["c"].exchanger.summary()
            assert set(newcomer) == {(name, subject) for name in "ab" for subject in ("s0", "s1")}
            assert {version for version, _ in newcomer.values()} == {2}

        tell(story)

    def test_also_those_of_peers_that_are_gone(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            await group.exchange()
            known = group.peers["b"].exchanger.summary()
            group.crash("a")
            group.crash("c")
            await asyncio.sleep(10)
            newcomer = await group.peer("c")
            await asyncio.sleep(10)
            assert {place: each for place, each in known.items() if place[0] == "a"} == {
                place: each for place, each in newcomer.exchanger.summary().items() if place[0] == "a"
            }

        tell(story)

    def test_offers_wait_until_a_peer_is_ready(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            group.crash("c")
            await asyncio.sleep(5)
            late = await group.peer("c", ready=False)
            record = await group.exchange()
            assert (list(record.offered), list(record.lost)) == (["a", "b"], ["c"])
            await asyncio.sleep(20)
            assert late.exchanger.absorbed_offers == []
            group.driver.publish(EXCHANGE, wire.ExchangeRequest(key="l", task="learn", options={}))
            await asyncio.sleep(5)
            await late.ready()
            await asyncio.sleep(10)
            assert [plan.key for plan in late.exchanger.plans] == ["k", "l"]
            assert len(late.exchanger.current()) == 4
            assert {offer.version for offer in late.exchanger.current().values()} == {2}

        tell(story)

    def test_a_peer_that_joins_an_open_exchange_counts_if_it_is_in_time(
        self, tell: Tell, make_group: MakeGroup
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start(seconds=group.slow)
            group.crash("c")
            await asyncio.sleep(5)
            waiting = asyncio.ensure_future(group.exchange())
            await asyncio.sleep(1)
            await group.peer("c", seconds=1.0)
            record = await waiting
            assert list(record.offered) == ["a", "b", "c"]
            assert record.lost == {}

        tell(story)
