"""Whose offers count, how much is kept, and that nothing but embeddings leaves a client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.errors import MethodError
from nodes.exchange.conversion import to_offer_message
from nodes.retransmission import REPEATED_MESSAGE_BYTES
from nodes.transport.memory import Faults
from protocol.codec import Envelope, encode
from protocol.messages import QueryAnswer
from protocol.messages import exchange as wire
from protocol.security.budget import ALLOWANCES, Cost
from protocol.topics import EXCHANGE, inbox

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]

TROUBLE = Faults(drop=0.1, duplicate=0.05, delay=(0.0, 0.2))
HEAVY = Faults(drop=0.3, duplicate=0.2, delay=(0.0, 0.5))
FOUR = ("a", "b", "c", "d")


class TestHearsay:
    def test_offers_of_a_living_peer_come_from_itself_only(
        self, tell: Tell, make_group: MakeGroup, restored: Any
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            await group.exchange()
            before = group.peers["c"].exchanger.summary()
            for version in (1, 9):
                group.publish_offer("b", group.make_offer("a", 66.0, version=version))
            await asyncio.sleep(20)
            assert group.peers["c"].exchanger.summary() == before
            assert group.peers["c"].node.counts["hearsay"] == 2
            group.crash("a")
            await asyncio.sleep(20)
            for offer in (group.make_offer("a", 66.0, version=9), group.make_offer("a", 66.0, "new")):
                group.publish_offer("b", offer)
            await asyncio.sleep(20)
            after = group.peers["c"].exchanger.summary()
            assert after.pop(("a", "new")) == (1, [[66.0] * 4] * 2), "of a peer that is gone others fill gaps"
            assert after == before, "and change nothing that it has offered itself"
            await group.peer("a", exchanger=restored("a", group.make_offer("a", 1.5, "new")))
            await asyncio.sleep(20)
            assert group.peers["c"].exchanger.summary()["a", "new"] == (1, [[1.5] * 4] * 2)

        tell(story)

    def test_a_peer_absorbs_nothing_in_its_own_name(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            group.publish_offer("b", group.make_offer("a", 66.0))
            await asyncio.sleep(5)
            assert group.peers["a"].exchanger.absorbed_offers == []

        tell(story)

    def test_strangers_offer_nothing_and_are_told_nothing(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            forger = await cluster.forger("stranger").link(group.peers["a"].node)
            for number, origin in enumerate(("stranger", "b"), 1):
                forger.say(EXCHANGE, to_offer_message(group.make_offer(origin, 66.0), ""), number)
            forger.say(EXCHANGE, wire.OfferList(key="k", versions={"s0": 1}, values={}, bytes_sent=0), 3)
            forger.say(EXCHANGE, wire.OfferRequest(origin="b", versions={}), 4)
            await asyncio.sleep(5)
            assert group.peers["a"].exchanger.absorbed_offers == []
            assert group.peers["a"].node.counts["no member"] == 4
            assert forger.messages(wire.OfferMessage) == []

        tell(story)


class TestBounds:
    def test_what_a_peer_requests_again_and_again_it_gets_up_to_its_budget(
        self, tell: Tell, make_group: MakeGroup
    ) -> None:
        """A request of a few bytes is answered with embeddings, of up to a megabyte each, and with a verdict a peer."""

        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            await group.exchange()
            await asyncio.sleep(5)
            b, most = group.peers["b"].node, ALLOWANCES[Cost.REPEATED].burst / REPEATED_MESSAGE_BYTES
            told, life = b._publisher.outbox.latest, b.presence.incarnation("a") or 0
            for request in (
                wire.OfferRequest(origin="b", versions={}),
                wire.ExchangeRequest(key="k", task="exchange", options={}),
            ):
                before = told[inbox("a")]
                for number in range(4000):
                    b.received(encode(Envelope(inbox("b"), "test", "a", life, 10**6 + number, request)))
                    await asyncio.sleep(0)  # a turn of what is repeated
                assert told[inbox("a")] - before <= most
            assert b.faults["a"] > 0

        tell(story)

    def test_more_requests_than_can_wait_are_declined(
        self, tell: Tell, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nodes.exchange.peer.MAX_PENDING", 2)

        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a")
            await group.start(seconds=group.slow)
            waiting = [asyncio.ensure_future(group.exchange(key)) for key in ("k", "l")]
            await asyncio.sleep(1)
            with pytest.raises(MethodError, match="a declined: 2 requests are waiting here already"):
                await group.exchange("m")
            assert [record.key for record in await asyncio.gather(*waiting)] == ["k", "l"]
            assert (await group.exchange("m")).offered == {"a": {"s0": 3, "s1": 3}}

        tell(story)

    def test_the_oldest_requests_are_forgotten(
        self, tell: Tell, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nodes.exchange.peer.MAX_REQUESTS", 2)

        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a", "b")
            await group.start()
            for number in range(6):
                await group.exchange(f"k{number}")
            assert list(group.peers["a"].service._requests) == ["k4", "k5"]

        tell(story)

    def test_embeddings_that_are_not_finite_are_dropped_on_arrival(
        self, tell: Tell, make_group: MakeGroup, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a", "b", "liar")
            await group.peer("a")
            liar = await cluster.forger("liar").link(group.peers["a"].node)
            offer = to_offer_message(group.make_offer("liar", 1.0), "")
            frames = encode(Envelope(EXCHANGE, "test", "liar", liar.incarnation, 1, offer))
            liar.bus.publish([*frames[:2], torch.full((2, 4), torch.nan).numpy().tobytes()])
            await asyncio.sleep(0.1)
            assert group.peers["a"].node.counts["malformed"] == 1
            assert "sender='liar', field='embeddings'" in caplog.text
            assert group.peers["a"].exchanger.absorbed_offers == []
            liar.say(EXCHANGE, offer, 1)
            await asyncio.sleep(5)
            assert len(group.peers["a"].exchanger.absorbed_offers) == 1

        tell(story)


class TestNothingButWords:
    def test_nothing_but_embeddings_leaves_a_client(self, tell: Tell, make_group: MakeGroup, wiretap: Any) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            tap = wiretap.Wiretap().on(cluster.network)
            await group.start()
            for number in range(3):
                await group.exchange(f"k{number}")
            private = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
            assert len(tap.offers("abc", 4)) == 3 * 3 * 2
            assert tap.assert_no_image(private) > 1000

        tell(story, TROUBLE)

    def test_the_wiretap_finds_what_should_not_be_sent(self, tell: Tell, make_group: MakeGroup, wiretap: Any) -> None:
        private = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))

        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a", "b")
            tap = wiretap.Wiretap().on(cluster.network)
            await group.start()
            group.peers["a"].exchanger.alter = lambda _words: private[0, :2, :4]
            await group.exchange()
            assert len(tap.offers("ab", 4)) == 4
            with pytest.raises(AssertionError, match="exchange/' has a fragment of an image at byte 0"):
                tap.assert_no_image([private])
            with pytest.raises(AssertionError):
                tap.offers("ab", 5)
            group.peers["a"].node.tell("driver", QueryAnswer(query=1, outputs={"x": torch.ones(2)}, seconds=0.0))
            with pytest.raises(AssertionError, match="a's query_answer has a tensor"):
                tap.offers("ab", 4)
            assert len(tap.offers("ab", 4, but={"query_answer"})) == 4

        tell(story)
