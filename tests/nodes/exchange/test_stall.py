"""A client in exchanges: what its record says, who comes late, calls said again, hearsay, and what never leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.conversations import Call, Offer
from fednet.errors import MethodError
from nodes.exchange import stall as stalls
from nodes.exchange.words import said_offer
from nodes.memory_bus import Faults
from protocol.codec import Envelope, decode, encode
from protocol.messages import exchange as wire
from protocol.topics import EXCHANGE

Tell = Callable[..., Any]

TROUBLE = Faults(drop=0.1, duplicate=0.05, delay=(0.0, 0.2))
FOUR = ("a", "b", "c", "d")


class TestRecord:
    def test_it_says_who_offered_what_and_who_absorbed_whose(self, tell: Tell, fair: Any, wiretap: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            tap = wiretap.Wiretap().on(cluster.network)
            record = await market.exchange(subjects=1)
            assert record.offered == {name: {"s0": 1} for name in "abc"}
            assert record.absorbed == {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
            assert record.values == {name: {"number": market.number(name)} for name in "abc"}
            assert (record.refused, record.late, record.lost) == ({}, (), {})
            assert record.seconds >= 1.0
            offers = [frames for frames in tap.messages if decode(frames).message.kind == "offer"]
            assert record.sent == {decode(frames).sender: sum(map(len, frames)) for frames in offers}
            assert len(offers) == 3

        tell(story)

    def test_who_declines_or_breaks_down_is_named_and_absorbs_all_the_same(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, *FOUR)
            await market.assemble()
            record = await market.exchange(balks="b", breaks="d")
            broke = "declined: ZeroDivisionError in learn; see this node's log"
            assert record.lost == {"b": "declined: it has nothing to teach", "d": broke}
            assert list(record.offered) == ["a", "c"]
            assert record.absorbed == {"a": ("c",), "c": ("a",)}
            await asyncio.sleep(5)
            assert all(len(market.peers[name].teacher.holds()) == 4 for name in "bd")

        tell(story)

    def test_when_everybody_declines_it_says_why(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, "a")
            await market.assemble()
            with pytest.raises(MethodError, match="nobody offers anything under 'k': a declined: it has nothing"):
                await market.exchange(balks="a")

        tell(story)

    def test_a_method_without_traders_has_no_exchanges(self, tell: Tell, fair: Any, mute: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, "a")
            await market.peer("a", teacher=mute, ready=False)
            market.peers["a"].presenter.show("{}")
            await market.peers["a"].stall.open(mute)
            await market.visitor()
            with pytest.raises(MethodError, match="a declined: its method takes no part in exchanges"):
                await market.exchange()

        tell(story)

    def test_words_of_another_width_are_refused_by_name_at_every_peer_that_refused(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            market.peers["b"].teacher.spoil = lambda words: torch.cat([words, words], 1)
            record = await market.exchange()
            why = dict.fromkeys(("b/s0", "b/s1"), "words have 8 values, 4 are needed")
            assert record.refused == {"a": why, "c": why}
            assert record.absorbed == {"a": ("c",), "b": ("a", "c"), "c": ("a",)}

        tell(story)

    def test_words_that_are_not_finite_never_leave(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            market.peers["b"].teacher.spoil = lambda words: words * torch.nan
            record = await market.exchange()
            said = "declined: b's offer 's0' has words that are not finite: they cannot be offered"
            assert record.lost == {"b": said}

        tell(story)

    def test_nor_are_they_heard_from_somebody_who_sends_them_all_the_same(
        self, tell: Tell, fair: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, "a", "b", "liar")
            await market.peer("a")
            liar = await cluster.forger("liar").link(market.peers["a"].node)
            offer = said_offer(market.words("liar", 1.0), "")
            frames = encode(Envelope(EXCHANGE, "test", "liar", liar.incarnation, 1, offer))
            liar.bus.publish([*frames[:2], torch.full((2, 4), torch.nan).numpy().tobytes()])
            await asyncio.sleep(0.1)
            assert market.peers["a"].node.counts["malformed"] == 1
            assert "sender='liar', field='words'" in caplog.text
            assert market.peers["a"].teacher.heard == []
            liar.say(EXCHANGE, offer, 1)
            await asyncio.sleep(5)
            assert len(market.peers["a"].teacher.heard) == 1

        tell(story)

    def test_what_the_trader_cannot_cope_with_is_a_refusal_too(self, tell: Tell, fair: Any) -> None:
        def absorb(offer: Offer) -> None:
            raise ZeroDivisionError

        async def story(cluster: Any) -> None:
            market = fair(cluster, "a", "b")
            await market.assemble()
            market.peers["b"].teacher.absorb = absorb
            record = await market.exchange(subjects=1)
            assert record.refused == {"b": {"a/s0": "ZeroDivisionError while absorbing; see this node's log"}}

        tell(story)

    def test_what_there_is_no_room_for_is_refused_and_counted(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, "a", "b")
            await market.assemble()
            market.peers["b"].stall._intake.shelf.most = 1
            record = await market.exchange(subjects=3)
            assert [why[:8] for why in record.refused["b"].values()] == ["no room:", "no room:"]
            assert record.absorbed == {"a": ("b",), "b": ("a",)}
            assert market.peers["b"].node.counts["no room"] == 2

        tell(story)


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
            market.guest.publish(EXCHANGE, wire.Call(key="l", work="learn", options={}))
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


class TestCalls:
    def test_a_call_is_done_once_however_many_ask_for_it(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            one = market.caller
            other = await market.visitor("other")
            both = await asyncio.gather(*(each.exchange(Call("k", "learn")) for each in (one, other)))
            assert market.comparable(both[0]) == market.comparable(both[1])
            assert both[0].sent == both[1].sent
            assert all(len(each.teacher.calls) == 1 for each in market.peers.values())

        tell(story)

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
                forger.say(EXCHANGE, said_offer(market.words(origin, 66.0), ""), number)
            forger.say(EXCHANGE, wire.Offered(key="k", versions={"s0": 1}, values={}, sent=0), 3)
            forger.say(EXCHANGE, wire.Seek(origin="b", versions={}), 4)
            await asyncio.sleep(5)
            assert market.peers["a"].teacher.heard == []
            assert market.peers["a"].node.counts["no member"] == 4
            assert forger.messages(wire.Offer) == []

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
            from protocol.messages import Answer

            market.peers["a"].node.tell("guest", Answer(query=1, outputs={"x": torch.ones(2)}, seconds=0.0))
            with pytest.raises(AssertionError, match="a's answer has a tensor"):
                tap.words("ab", 4)
            assert len(tap.words("ab", 4, but={"answer"})) == 4

        tell(story)
