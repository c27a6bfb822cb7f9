"""The asking side: whom it waits for, how long, what the record says, and that it can be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import ExchangePlan, Offer, Stopped
from fednet.errors import MethodError
from nodes.errors import NoQuorum
from protocol.codec import decode
from protocol.messages import exchange as wire

Tell = Callable[..., Any]


def test_a_call_that_was_made_is_remembered(tell: Tell, fair: Any) -> None:
    async def story(cluster: Any) -> None:
        market = fair(cluster)
        await market.assemble()
        record = await market.exchange()
        assert await market.exchange() is record
        assert len(market.peers["a"].teacher.calls) == 1

    tell(story)


def test_options_and_work_travel(tell: Tell, fair: Any) -> None:
    async def story(cluster: Any) -> None:
        market = fair(cluster, "a")
        await market.assemble()
        record = await market.exchange("k", "tune", rate=0.5, steps=3, merge=True, mode="x", none=None)
        (call,) = market.peers["a"].teacher.calls
        assert call == ExchangePlan("k", "tune", {"rate": 0.5, "steps": 3, "merge": True, "mode": "x", "none": None})
        assert record.absorbed == {"a": ()}

    tell(story)


@pytest.mark.parametrize(
    "call",
    [ExchangePlan("", "learn"), ExchangePlan("k", ""), ExchangePlan("k", 65 * "w"), ExchangePlan("k", "w", {"": 1})],
)
def test_what_is_no_call_is_not_made(tell: Tell, fair: Any, call: ExchangePlan) -> None:
    async def story(cluster: Any) -> None:
        market = fair(cluster, "a")
        await market.assemble()
        with pytest.raises(MethodError, match="cannot be made"):
            await market.caller.exchange(call)
        assert market.peers["a"].teacher.calls == []

    tell(story)


def test_a_call_too_large_to_be_said_is_an_error_where_it_is_made(tell: Tell, fair: Any) -> None:
    async def story(cluster: Any) -> None:
        market = fair(cluster, "a")
        await market.assemble()
        with pytest.raises(Exception, match="header is too long"):
            await market.exchange(text=300_000 * "x")
        assert (await market.exchange()).offered["a"] == {"s0": 1, "s1": 1}

    tell(story)


def test_the_same_call_is_not_made_twice_at_a_time(tell: Tell, fair: Any) -> None:
    async def story(cluster: Any) -> None:
        market = fair(cluster, "a")
        await market.assemble()
        waiting = asyncio.ensure_future(market.exchange())
        await asyncio.sleep(0.1)
        with pytest.raises(MethodError, match="is being made already"):
            await market.exchange()
        assert (await waiting).key == "k"

    tell(story)


def test_calls_are_made_beside_each_other_under_their_own_keys(tell: Tell, fair: Any) -> None:
    async def story(cluster: Any) -> None:
        market = fair(cluster)
        await market.assemble()
        records = await asyncio.gather(*(market.exchange(f"k{number}") for number in range(3)))
        assert [record.key for record in records] == ["k0", "k1", "k2"]
        assert all(record.absorbed["a"] == ("b", "c") for record in records)

    tell(story)


def test_a_call_is_done_once_however_many_ask_for_it(tell: Tell, fair: Any) -> None:
    async def story(cluster: Any) -> None:
        market = fair(cluster)
        await market.assemble()
        one = market.caller
        other = await market.visitor("other")
        both = await asyncio.gather(*(each.exchange(ExchangePlan("k", "learn")) for each in (one, other)))
        assert market.comparable(both[0]) == market.comparable(both[1])
        assert both[0].sent == both[1].sent
        assert all(len(each.teacher.calls) == 1 for each in market.peers.values())

    tell(story)


class TestWhoIsMissing:
    def test_who_is_expected_and_not_there_is_named(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            market.bury("c")
            await asyncio.sleep(5)
            record = await market.exchange()
            assert list(record.lost) == ["c"]
            assert record.lost["c"].startswith("lost: its connection broke")
            assert record.absorbed == {"a": ("b",), "b": ("a",)}

        tell(story)

    def test_when_nobody_is_left_there_is_no_quorum(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, "a", "b")
            await market.assemble(seconds=market.slow)
            waiting = asyncio.ensure_future(market.exchange())
            await asyncio.sleep(1)
            market.bury("a")
            market.bury("b")
            with pytest.raises(NoQuorum, match="0 of 1 needed peers contributed"):
                await waiting
            with pytest.raises(NoQuorum):
                await market.exchange("l")

        tell(story)

    def test_a_quorum_that_is_not_reached_is_an_error_and_names_who_is_missing(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble(quorum=3)
            with pytest.raises(NoQuorum, match=r"2 of 3 needed .*b: declined: it has nothing to teach"):
                await market.exchange(balks="b")

        tell(story)


class TestLate:
    def test_under_wait_somebody_slow_is_waited_for(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, "a", "b")
            await market.peer("a")
            await market.peer("b", seconds=market.slow)
            await market.visitor()
            record = await market.exchange()
            assert list(record.offered) == ["a", "b"]
            assert record.seconds >= 60

        tell(story)

    def test_survivors_go_on_and_the_late_one_is_named_and_its_offers_are_absorbed_later(
        self, tell: Tell, fair: Any
    ) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.peer("a")
            await market.peer("b")
            await market.peer("c", seconds=market.slow)
            await market.visitor(kind="survivors", quorum=2, cold_start=10.0)
            record = await market.exchange()
            assert (list(record.offered), record.late, record.lost) == (["a", "b"], ("c",), {})
            assert record.absorbed == {"a": ("b",), "b": ("a",)}
            assert 10 <= record.seconds < 20
            await asyncio.sleep(100)
            assert {origin for origin, _ in market.peers["a"].teacher.holds()} == {"b", "c"}

        tell(story)

    def test_nobody_is_late_because_the_asker_itself_stood_still(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster, "a", "b")
            await market.assemble(seconds=market.slow, hard_limit=70.0)
            loop = asyncio.get_running_loop()
            waiting = asyncio.ensure_future(market.exchange())
            await asyncio.sleep(1)
            loop._jumping.now += 75.0  # type: ignore[attr-defined]
            assert list((await waiting).offered) == ["a", "b"]

        tell(story)


class TestStopping:
    def test_progress_is_told_of_offers_and_then_of_what_is_absorbed(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble()
            heard: list[tuple[str, int, int]] = []

            class Listener:
                def report(self, phase: str, done: int, total: int, **_values: float) -> None:
                    heard.append((phase, done, total))

            await market.caller.exchange(ExchangePlan("k", "learn"), Listener())
            assert heard[0] == ("offer: learn", 0, 3)
            assert heard == sorted(heard, key=lambda told: (told[0] != "offer: learn", told[1]))
            assert {phase for phase, _, _ in heard} == {"offer: learn", "absorb: learn"}

        tell(story)

    def test_a_progress_that_says_stop_ends_the_exchange(self, tell: Tell, fair: Any) -> None:
        class Stopping:
            def report(self, *_report: Any, **_values: float) -> None:
                raise Stopped

        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble(seconds=market.slow)
            with pytest.raises(Stopped):
                await market.caller.exchange(ExchangePlan("k", "learn"), Stopping())
            assert not market.caller._open

        tell(story)

    def test_who_waits_no_more_may_call_again(self, tell: Tell, fair: Any) -> None:
        async def story(cluster: Any) -> None:
            market = fair(cluster)
            await market.assemble(seconds=market.slow)
            waiting = asyncio.ensure_future(market.exchange())
            await asyncio.sleep(1)
            waiting.cancel()
            await asyncio.sleep(1)
            assert list((await market.exchange()).offered) == ["a", "b", "c"]
            assert len(market.peers["a"].teacher.calls) == 1

        tell(story)


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
            market = fair(cluster, *"abcd")
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
            market.peers["b"].stall._offer_queue.store.most = 1
            record = await market.exchange(subjects=3)
            assert [why[:8] for why in record.refused["b"].values()] == ["no room:", "no room:"]
            assert record.absorbed == {"a": ("b",), "b": ("a",)}
            assert market.peers["b"].node.counts["no room"] == 2

        tell(story)


def test_what_is_said_of_other_calls_and_by_others_is_dropped(tell: Tell, fair: Any) -> None:
    async def story(cluster: Any) -> None:
        market = fair(cluster, "a", "b")
        await market.assemble(seconds=market.slow)
        waiting = asyncio.ensure_future(market.exchange())
        await asyncio.sleep(1)
        forger = await cluster.forger("stranger").link(market.guest)
        offered: dict[str, Any] = {"versions": {"s0": 1}, "values": {}, "bytes_sent": 0}
        for number, key in enumerate("kl", 1):
            forger.say("to/guest/", wire.OfferList(key=key, **offered), number)
        forger.say("to/guest/", wire.ExchangeDecline(key="k", reason="no"), 3)
        forger.say("to/guest/", wire.OfferVerdict(key="k", origin="a", refused={}), 4)
        record = await waiting
        assert list(record.offered) == ["a", "b"]
        assert "stranger" not in record.lost

    tell(story)
