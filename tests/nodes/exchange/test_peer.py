"""A client in exchanges, on a bus that loses and reorders: all peers end with the same offers, whichever crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fednet.api import ExchangePlan
from fednet.federated.local_network import local_network
from nodes.exchange.offer_queue import REQUEST_TIMEOUT
from nodes.exchange.peer import REPAIR_INTERVAL
from nodes.publisher import BUFFER_OVERHEAD_BYTES
from nodes.transport.memory import Faults
from tests.cases import first

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]

TROUBLE = Faults(drop=0.1, duplicate=0.05, delay=(0.0, 0.2))
HEAVY = Faults(drop=0.3, duplicate=0.2, delay=(0.0, 0.5))
FOUR = ("a", "b", "c", "d")


def of(origin: str, summary: Any) -> Any:
    """The offers of one origin."""
    return {key: each for key, each in summary.items() if key[0] == origin}


class TestTheSameForAll:
    @pytest.mark.parametrize("seed", first(2, range(4)))
    def test_the_bus_with_faults_gives_what_one_process_gives(
        self, tell: Tell, make_group: MakeGroup, exchangers: Any, seed: int
    ) -> None:
        async def story(cluster: Any) -> None:
            group, local_exchangers = make_group(cluster, *FOUR), exchangers(*FOUR)
            await group.start()
            local = local_network(local_exchangers, {})
            for number in range(5):
                record = await group.exchange(f"k{number}", subjects=3)
                assert group.comparable(record) == group.comparable(
                    local.exchange(ExchangePlan(f"k{number}", "learn", {"subjects": 3}))
                )
                assert group.summaries() == {name: each.summary() for name, each in local_exchangers.items()}
            assert cluster.network.lost > 20

        tell(story, TROUBLE, seed)

    def test_embeddings_are_exact_in_a_run_with_another_encoding(
        self, tell: Tell, make_group: MakeGroup, exchangers: Any
    ) -> None:
        async def story(cluster: Any) -> None:
            group, local_exchangers = make_group(cluster, encoding="int8"), exchangers()
            await group.start()
            for number in range(3):
                await group.exchange(f"k{number}")
                local_network(local_exchangers, {}).exchange(ExchangePlan(f"k{number}", "learn"))
            assert group.summaries() == {name: each.summary() for name, each in local_exchangers.items()}

        tell(story)

    def test_a_late_request_is_worked_on_before_its_offers_are_absorbed(
        self, tell: Tell, make_group: MakeGroup, exchangers: Any
    ) -> None:
        async def story(cluster: Any) -> None:
            group, local_exchangers = make_group(cluster), exchangers()
            await group.start(seconds=0.0)
            cluster.network.cut("memory://driver", "memory://c")
            asyncio.get_running_loop().call_later(
                REQUEST_TIMEOUT / 2, cluster.network.heal, "memory://driver", "memory://c"
            )
            record = await group.exchange()
            assert group.comparable(record) == group.comparable(
                local_network(local_exchangers, {}).exchange(ExchangePlan("k", "learn"))
            )
            assert group.summaries() == {name: each.summary() for name, each in local_exchangers.items()}

        tell(story)

    def test_newer_versions_replace_older_ones(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            for number in range(1, 4):
                record = await group.exchange(f"k{number}")
                assert record.offered["a"] == {"s0": number, "s1": number}
            assert {offer.version for each in group.peers.values() for offer in each.exchanger.current().values()} == {
                3
            }

        tell(story)

    def test_an_older_version_that_comes_late_is_dropped(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a", "b")
            await group.start()
            for version in (2, 1, 3, 2):
                group.publish_offer("a", group.make_offer("a", float(version), version=version))
            await asyncio.sleep(5)
            assert [offer.version for offer in group.peers["b"].exchanger.absorbed_offers] == [2, 3]

        tell(story)


class TestMissed:
    def test_offers_that_can_no_longer_be_retransmitted_are_requested_again(
        self, tell: Tell, make_group: MakeGroup
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            group.peers["a"].node._publisher.outbox.capacity = 2 * BUFFER_OVERHEAD_BYTES + 500
            cluster.network.cut("memory://a", "memory://c")
            asyncio.get_running_loop().call_later(2.0, cluster.network.heal, "memory://a", "memory://c")
            record = await group.exchange(subjects=5)
            assert group.peers["c"].node.counts["gone"] > 2
            assert record.absorbed == {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
            assert REPAIR_INTERVAL < record.seconds < 4 * REPAIR_INTERVAL
            assert [group.summaries()[name]["a", "s4"] for name in "bc"] == 2 * [(1, [[1.0] * 4] * 2)]

        tell(story)


class TestDeaths:
    @pytest.mark.parametrize("kind", ["offer", "offer_list", "offer_verdict"])
    @pytest.mark.parametrize("number", [1, 2])
    @pytest.mark.parametrize("sent", [False, True])
    def test_a_crash_at_any_stage_keeps_nobody_waiting_and_all_survivors_have_the_same_offers(
        self, tell: Tell, make_group: MakeGroup, kind: str, number: int, sent: bool
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, *FOUR)
            await group.start()
            node, count = group.peers["b"].node, [0]
            publish = node.publish

            def crashing(topic: str, message: Any) -> None:
                count[0] += message.kind == kind
                if message.kind == kind and count[0] == number and not sent:
                    cluster.network.cut("memory://b", "memory://c")
                if count[0] <= number:
                    publish(topic, message)
                if count[0] == number and "b" in group.peers:
                    group.crash("b")

            node.publish = crashing
            record = await group.exchange()
            assert record.seconds < 20
            assert set(record.lost) <= {"b"}
            assert {"a", "c", "d"} <= record.offered.keys()
            for name in "acd":
                assert {"a", "c", "d"} - {name} <= set(record.absorbed[name])
            await asyncio.sleep(20)
            known = [of("b", summary) for summary in group.summaries().values()]
            assert known[0] == known[1] == known[2], "offers of b that one has missed are told by the others"
            assert (await group.exchange("again")).seconds < 20

        tell(story)

    def test_when_the_driver_crashes_the_work_is_finished_and_the_next_one_is_told(
        self, tell: Tell, make_group: MakeGroup
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start(seconds=group.slow)
            waiting = asyncio.ensure_future(group.exchange())
            await asyncio.sleep(10)
            group.driver._bus.crash()
            waiting.cancel()
            await asyncio.sleep(130)
            assert all(len(each.exchanger.plans) == 1 for each in group.peers.values())
            assert all(len(each.exchanger.current()) == 4 for each in group.peers.values())
            await group.add_driver("other")
            record = await group.exchange()
            assert record.absorbed == {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
            assert record.seconds < 5
            assert all(len(each.exchanger.plans) == 1 for each in group.peers.values())

        tell(story)
