"""Exchanges on a bus that loses, doubles, delays and reorders, among peers that die and return: all know the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from fednet.conversations import Call
from fednet.federated.local import local_network
from nodes.exchange.intake import PATIENCE
from nodes.exchange.stall import SEEK
from nodes.memory_bus import Faults

Tell = Callable[..., Any]

TROUBLE = Faults(drop=0.1, duplicate=0.05, delay=(0.0, 0.2))
HEAVY = Faults(drop=0.3, duplicate=0.2, delay=(0.0, 0.5))
FOUR = ("a", "b", "c", "d")


def of(origin: str, held: Any) -> Any:
    """What is held of one origin."""
    return {place: each for place, each in held.items() if place[0] == origin}


class TestTheSameForAll:
    @pytest.mark.parametrize("seed", range(4))
    def test_trouble_on_the_way_changes_nothing_and_the_bus_leaves_what_one_process_leaves(
        self, tell: Tell, fair: Any, teachers: Any, seed: int
    ) -> None:
        async def story(cluster: Any) -> None:
            market, alone = fair(cluster, *FOUR), teachers(*FOUR)
            await market.assemble()
            local = local_network(alone, {})
            for number in range(5):
                record = await market.exchange(f"k{number}", subjects=3)
                assert market.comparable(record) == market.comparable(
                    local.exchange(Call(f"k{number}", "learn", {"subjects": 3}))
                )
                assert market.held() == {name: each.said() for name, each in alone.items()}
            assert cluster.network.lost > 20

        tell(story, TROUBLE, seed)

    def test_words_are_the_same_bits_in_a_run_whose_tensors_are_not(self, tell: Tell, fair: Any, teachers: Any) -> None:
        async def story(cluster: Any) -> None:
            market, alone = fair(cluster, encoding="int8"), teachers()
            await market.assemble()
            for number in range(3):
                await market.exchange(f"k{number}")
                local_network(alone, {}).exchange(Call(f"k{number}", "learn"))
            assert market.held() == {name: each.said() for name, each in alone.items()}

        tell(story)

    def test_a_call_that_comes_late_is_worked_on_before_its_offers_are_absorbed(
        self, tell: Tell, fair: Any, teachers: Any
    ) -> None:
        async def story(cluster: Any) -> None:
            market, alone = fair(cluster), teachers()
            await market.assemble(seconds=0.0)
            cluster.network.cut("memory://guest", "memory://c")
            asyncio.get_running_loop().call_later(PATIENCE / 2, cluster.network.heal, "memory://guest", "memory://c")
            record = await market.exchange()
            assert market.comparable(record) == market.comparable(local_network(alone, {}).exchange(Call("k", "learn")))
            assert market.held() == {name: each.said() for name, each in alone.items()}

        tell(story)

    def test_newer_versions_take_the_place_of_older_ones(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            for number in range(1, 4):
                record = await market.exchange(f"k{number}")
                assert record.offered["a"] == {"s0": number, "s1": number}
            assert {offer.version for each in market.peers.values() for offer in each.teacher.holds().values()} == {3}

        tell(story)

    def test_an_older_version_that_comes_late_is_dropped(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, "a", "b")
            await market.assemble()
            for version in (2, 1, 3, 2):
                market.claim("a", market.words("a", float(version), version=version))
            await asyncio.sleep(5)
            assert [offer.version for offer in market.peers["b"].teacher.heard] == [2, 3]

        tell(story)


class TestMissed:
    def test_what_an_origin_can_no_longer_repeat_it_is_asked_for_again(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            market.peers["a"].node._outbox.capacity = 500
            cluster.network.cut("memory://a", "memory://c")
            asyncio.get_running_loop().call_later(2.0, cluster.network.heal, "memory://a", "memory://c")
            record = await market.exchange(subjects=5)
            assert market.peers["c"].node.counts["gone"] > 2
            assert record.absorbed == {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
            assert SEEK < record.seconds < 4 * SEEK
            assert [market.held()[name]["a", "s4"] for name in "bc"] == 2 * [(1, [[1.0] * 4] * 2)]

        tell(story)


class TestDeaths:
    @pytest.mark.parametrize("kind", ["offer", "offered", "absorbed"])
    @pytest.mark.parametrize("number", [1, 2])
    @pytest.mark.parametrize("said", [False, True])
    def test_a_death_at_any_point_keeps_nobody_waiting_and_all_survivors_know_the_same(
        self, tell: Tell, fair: Any, kind: str, number: int, said: bool
    ) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, *FOUR)
            await market.assemble()
            node, told = market.peers["b"].node, [0]
            publish = node.publish

            def doomed(topic: str, message: Any) -> None:
                told[0] += message.kind == kind
                if message.kind == kind and told[0] == number and not said:
                    cluster.network.cut("memory://b", "memory://c")
                if told[0] <= number:
                    publish(topic, message)
                if told[0] == number and "b" in market.peers:
                    market.bury("b")

            node.publish = doomed
            record = await market.exchange()
            assert record.seconds < 20
            assert set(record.lost) <= {"b"}
            assert {"a", "c", "d"} <= record.offered.keys()
            for name in "acd":
                assert {"a", "c", "d"} - {name} <= set(record.absorbed[name])
            await asyncio.sleep(20)
            known = [of("b", held) for held in market.held().values()]
            assert known[0] == known[1] == known[2], "who has missed something of the dead hears it from the others"
            assert (await market.exchange("again")).seconds < 20

        tell(story)

    def test_when_the_asker_dies_the_work_is_finished_and_the_next_one_is_told(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble(seconds=market.slow)
            waiting = asyncio.ensure_future(market.exchange())
            await asyncio.sleep(10)
            market.guest._bus.crash()
            waiting.cancel()
            await asyncio.sleep(200)
            assert all(len(each.teacher.calls) == 1 for each in market.peers.values())
            assert all(len(each.teacher.holds()) == 4 for each in market.peers.values())
            await market.visitor("other")
            record = await market.exchange()
            assert record.absorbed == {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
            assert record.seconds < 5
            assert all(len(each.teacher.calls) == 1 for each in market.peers.values())

        tell(story)


class TestComingBack:
    def test_it_offers_again_what_it_still_has(self, tell: Tell, fair: Any, back: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            await market.exchange()
            market.bury("a")
            market.bury("c")
            await asyncio.sleep(10)
            fresh = await market.peer("c")
            await market.peer(
                "a", teacher=back("a", market.words("a", 41.0, version=7), market.words("a", 42.0, "s1", 7))
            )
            await asyncio.sleep(10)
            for each in (market.peers["b"], fresh):
                assert each.teacher.said()["a", "s0"] == (7, [[41.0] * 4] * 2)
                assert each.teacher.said()["a", "s1"] == (7, [[42.0] * 4] * 2)

        tell(story)

    def test_who_has_lost_its_memory_is_believed_all_the_same(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            for key in ("k1", "k2", "k3"):
                await market.exchange(key)
            market.bury("a")
            await asyncio.sleep(10)
            await market.peer("a")
            await asyncio.sleep(10)
            record = await market.exchange("k4")
            assert record.offered["a"] == {"s0": 1, "s1": 1}
            assert (record.refused, record.lost) == ({}, {})
            held = [market.peers[name].teacher.said()["a", "s0"] for name in "bc"]
            assert held[0] == held[1]
            assert held[0][0] == 1

        tell(story)

    def test_a_call_that_is_open_is_worked_on_again(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble(seconds=market.slow)
            waiting = asyncio.ensure_future(market.exchange())
            await asyncio.sleep(10)
            market.bury("a")
            await asyncio.sleep(5)
            await market.peer("a", seconds=1.0)
            record = await waiting
            assert list(record.offered) == ["a", "b", "c"]
            assert record.lost == {}

        tell(story)

    def test_two_that_cannot_hear_each_other_are_late_and_a_cut_that_heals_leaves_nothing_out(
        self, tell: Tell, fair: Any
    ) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble(hard_limit=20.0)
            cluster.network.cut("memory://a", "memory://c")
            record = await market.exchange()
            assert (record.late, record.lost) == (("a", "c"), {})
            assert record.absorbed == {"a": ("b",), "b": ("a", "c"), "c": ("b",)}
            cluster.network.heal("memory://a", "memory://c")
            await asyncio.sleep(20)
            held = market.held()
            assert of("a", held["c"]).keys() == {("a", "s0"), ("a", "s1")}
            assert of("c", held["a"]).keys() == {("c", "s0"), ("c", "s1")}

        tell(story)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("faults", [TROUBLE, HEAVY])
def test_whoever_dies_and_comes_back_at_whatever_moment_the_living_end_with_the_same_offers(
    tell: Tell, fair: Any, faults: Faults, seed: int
) -> None:
    chance = Random(seed)  # noqa: S311 - a story that can be told again

    async def story(cluster: Any) -> None:
        market = fair(cluster, *"abcdef")
        await market.assemble()
        for number in range(5):
            waiting = asyncio.ensure_future(market.exchange(f"k{number}"))
            for _ in range(chance.randint(0, 2)):
                await asyncio.sleep(chance.uniform(0, 3))
                await befalls(market)
            assert (await waiting).seconds < 100
        await asyncio.sleep(60)
        for origin in market.peers:
            known = [of(origin, held) for name, held in market.held().items() if name != origin]
            assert all(each == known[0] for each in known)

    async def befalls(market: Any) -> None:
        """Somebody dies, as long as some are left, or comes back with a fresh memory."""
        dead = sorted(set(market.names) - market.peers.keys())
        if len(market.peers) > 3 and chance.random() < 0.7:
            market.bury(chance.choice(sorted(market.peers)))
        elif dead:
            await market.peer(chance.choice(dead))

    tell(story, faults, seed)
