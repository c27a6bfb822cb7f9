"""A client in exchanges, on a bus that loses and reorders, among peers that come late, die, return and lie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch

from fednet.api import ExchangePlan
from fednet.errors import MethodError
from fednet.federated.local_network import local_network
from nodes.exchange import peer as stalls
from nodes.exchange.conversion import to_offer_message
from nodes.exchange.offer_queue import REQUEST_TIMEOUT
from nodes.exchange.peer import REPAIR_INTERVAL
from nodes.publisher import BUFFER_OVERHEAD_BYTES
from nodes.transport.memory import Faults
from protocol.codec import Envelope, encode
from protocol.messages import exchange as wire
from protocol.topics import EXCHANGE

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
                    local.exchange(ExchangePlan(f"k{number}", "learn", {"subjects": 3}))
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
                local_network(alone, {}).exchange(ExchangePlan(f"k{number}", "learn"))
            assert market.held() == {name: each.said() for name, each in alone.items()}

        tell(story)

    def test_a_call_that_comes_late_is_worked_on_before_its_offers_are_absorbed(
        self, tell: Tell, fair: Any, teachers: Any
    ) -> None:
        async def story(cluster: Any) -> None:
            market, alone = fair(cluster), teachers()
            await market.assemble(seconds=0.0)
            cluster.network.cut("memory://guest", "memory://c")
            asyncio.get_running_loop().call_later(
                REQUEST_TIMEOUT / 2, cluster.network.heal, "memory://guest", "memory://c"
            )
            record = await market.exchange()
            assert market.comparable(record) == market.comparable(
                local_network(alone, {}).exchange(ExchangePlan("k", "learn"))
            )
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
            market.peers["a"].node._publisher.outbox.capacity = 2 * BUFFER_OVERHEAD_BYTES + 500
            cluster.network.cut("memory://a", "memory://c")
            asyncio.get_running_loop().call_later(2.0, cluster.network.heal, "memory://a", "memory://c")
            record = await market.exchange(subjects=5)
            assert market.peers["c"].node.counts["gone"] > 2
            assert record.absorbed == {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
            assert REPAIR_INTERVAL < record.seconds < 4 * REPAIR_INTERVAL
            assert [market.held()[name]["a", "s4"] for name in "bc"] == 2 * [(1, [[1.0] * 4] * 2)]

        tell(story)


class TestDeaths:
    @pytest.mark.parametrize("kind", ["offer", "offer_list", "offer_verdict"])
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


class TestComingLate:
    def test_a_newcomer_is_told_what_was_offered_before(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.peer("a")
            await market.peer("b")
            await market.visitor(expected=("a", "b"))
            await market.exchange("k1")
            await market.exchange("k2")
            await market.peer("c")
            await asyncio.sleep(10)
            newcomer = market.peers["c"].teacher.said()
            assert set(newcomer) == {(name, subject) for name in "ab" for subject in ("s0", "s1")}
            assert {version for version, _ in newcomer.values()} == {2}

        tell(story)

    def test_also_of_those_who_are_gone_since(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            await market.exchange()
            known = market.peers["b"].teacher.said()
            market.bury("a")
            market.bury("c")
            await asyncio.sleep(10)
            newcomer = await market.peer("c")
            await asyncio.sleep(10)
            assert {place: each for place, each in known.items() if place[0] == "a"} == {
                place: each for place, each in newcomer.teacher.said().items() if place[0] == "a"
            }

        tell(story)

    def test_what_comes_before_a_peer_is_ready_waits_for_it(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            market.bury("c")
            await asyncio.sleep(5)
            late = await market.peer("c", ready=False)
            record = await market.exchange()
            assert (list(record.offered), list(record.lost)) == (["a", "b"], ["c"])
            await asyncio.sleep(100)
            assert late.teacher.heard == []
            market.guest.publish(EXCHANGE, wire.ExchangeRequest(key="l", task="learn", options={}))
            await asyncio.sleep(5)
            await late.ready()
            await asyncio.sleep(10)
            assert [call.key for call in late.teacher.calls] == ["k", "l"]
            assert len(late.teacher.holds()) == 4
            assert {offer.version for offer in late.teacher.holds().values()} == {2}

        tell(story)

    def test_who_comes_while_a_call_is_open_is_told_it_and_counts_if_it_is_in_time(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble(seconds=market.slow)
            market.bury("c")
            await asyncio.sleep(5)
            waiting = asyncio.ensure_future(market.exchange())
            await asyncio.sleep(1)
            await market.peer("c", seconds=1.0)
            record = await waiting
            assert list(record.offered) == ["a", "b", "c"]
            assert record.lost == {}

        tell(story)


class TestHearsay:
    def test_of_the_living_only_their_own_word_counts(self, tell: Tell, fair: Any, back: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            await market.exchange()
            before = market.peers["c"].teacher.said()
            for version in (1, 9):
                market.claim("b", market.words("a", 66.0, version=version))
            await asyncio.sleep(20)
            assert market.peers["c"].teacher.said() == before
            assert market.peers["c"].node.counts["hearsay"] == 2
            market.bury("a")
            await asyncio.sleep(20)
            for offer in (market.words("a", 66.0, version=9), market.words("a", 66.0, "new")):
                market.claim("b", offer)
            await asyncio.sleep(20)
            after = market.peers["c"].teacher.said()
            assert after.pop(("a", "new")) == (1, [[66.0] * 4] * 2), "of the dead it fills gaps"
            assert after == before, "and changes nothing that they have said themselves"
            await market.peer("a", teacher=back("a", market.words("a", 1.5, "new")))
            await asyncio.sleep(20)
            assert market.peers["c"].teacher.said()["a", "new"] == (1, [[1.5] * 4] * 2)

        tell(story)

    def test_of_myself_nobody_tells_me_anything(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            market.claim("b", market.words("a", 66.0))
            await asyncio.sleep(5)
            assert market.peers["a"].teacher.heard == []

        tell(story)

    def test_strangers_offer_nothing_and_are_told_nothing(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            forger = await cluster.forger("stranger").link(market.peers["a"].node)
            for number, origin in enumerate(("stranger", "b"), 1):
                forger.say(EXCHANGE, to_offer_message(market.words(origin, 66.0), ""), number)
            forger.say(EXCHANGE, wire.OfferList(key="k", versions={"s0": 1}, values={}, bytes_sent=0), 3)
            forger.say(EXCHANGE, wire.OfferRequest(origin="b", versions={}), 4)
            await asyncio.sleep(5)
            assert market.peers["a"].teacher.heard == []
            assert market.peers["a"].node.counts["no member"] == 4
            assert forger.messages(wire.OfferMessage) == []

        tell(story)


class TestBounds:
    def test_more_calls_than_can_wait_are_declined(
        self, tell: Tell, fair: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stalls, "MOST_WAITING", 2)

        async def story(cluster: Any) -> None:
            market = fair(cluster, "a")
            await market.assemble(seconds=market.slow)
            waiting = [asyncio.ensure_future(market.exchange(key)) for key in ("k", "l")]
            await asyncio.sleep(1)
            with pytest.raises(MethodError, match="a declined: 2 calls are waiting here already"):
                await market.exchange("m")
            assert [record.key for record in await asyncio.gather(*waiting)] == ["k", "l"]
            assert (await market.exchange("m")).offered == {"a": {"s0": 3, "s1": 3}}

        tell(story)

    def test_the_oldest_calls_are_forgotten(self, tell: Tell, fair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stalls, "MOST_CALLS", 2)

        async def story(cluster: Any) -> None:
            market = fair(cluster, "a", "b")
            await market.assemble()
            for number in range(6):
                await market.exchange(f"k{number}")
            assert list(market.peers["a"].stall._calls) == ["k4", "k5"]

        tell(story)

    def test_words_that_are_not_finite_are_not_heard_though_somebody_sends_them(
        self, tell: Tell, fair: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, "a", "b", "liar")
            await market.peer("a")
            liar = await cluster.forger("liar").link(market.peers["a"].node)
            offer = to_offer_message(market.words("liar", 1.0), "")
            frames = encode(Envelope(EXCHANGE, "test", "liar", liar.incarnation, 1, offer))
            liar.bus.publish([*frames[:2], torch.full((2, 4), torch.nan).numpy().tobytes()])
            await asyncio.sleep(0.1)
            assert market.peers["a"].node.counts["malformed"] == 1
            assert "sender='liar', field='embeddings'" in caplog.text
            assert market.peers["a"].teacher.heard == []
            liar.say(EXCHANGE, offer, 1)
            await asyncio.sleep(5)
            assert len(market.peers["a"].teacher.heard) == 1

        tell(story)


class TestNothingButWords:
    def test_leaves_a_client_in_an_exchange(self, tell: Tell, fair: Any, wiretap: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            tap = wiretap.Wiretap().on(cluster.network)
            await market.assemble()
            for number in range(3):
                await market.exchange(f"k{number}")
            private = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
            assert len(tap.words("abc", 4)) == 3 * 3 * 2
            assert tap.nothing_of(private) > 1000

        tell(story, TROUBLE)

    def test_the_ear_hears_what_should_not_be_said(self, tell: Tell, fair: Any, wiretap: Any) -> None:
        private = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))

        async def story(cluster: Any) -> None:
            market = fair(cluster, "a", "b")
            tap = wiretap.Wiretap().on(cluster.network)
            await market.assemble()
            market.peers["a"].teacher.spoil = lambda _words: private[0, :2, :4]
            await market.exchange()
            assert len(tap.words("ab", 4)) == 4
            with pytest.raises(AssertionError, match="exchange/' has a piece of a picture at byte 0"):
                tap.nothing_of([private])
            with pytest.raises(AssertionError):
                tap.words("ab", 5)
            from protocol.messages import QueryAnswer

            market.peers["a"].node.tell("guest", QueryAnswer(query=1, outputs={"x": torch.ones(2)}, seconds=0.0))
            with pytest.raises(AssertionError, match="a's answer has a tensor"):
                tap.words("ab", 4)
            assert len(tap.words("ab", 4, but={"query_answer"})) == 4

        tell(story)
