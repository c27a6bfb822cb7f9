"""The requesting side: which clients it waits for, how long, and that it can be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fednet.api import ExchangePlan, Stopped
from fednet.errors import MethodError
from nodes.errors import NoQuorum
from protocol.messages import exchange as wire

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]


def test_an_exchange_that_was_held_is_remembered(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        record = await group.exchange()
        assert await group.exchange() is record
        assert len(group.peers["a"].exchanger.plans) == 1

    tell(story)


def test_options_and_work_travel(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, "a")
        await group.start()
        record = await group.exchange("k", "tune", rate=0.5, steps=3, merge=True, mode="x", none=None)
        (plan,) = group.peers["a"].exchanger.plans
        assert plan == ExchangePlan("k", "tune", {"rate": 0.5, "steps": 3, "merge": True, "mode": "x", "none": None})
        assert record.absorbed == {"a": ()}

    tell(story)


@pytest.mark.parametrize(
    "plan",
    [ExchangePlan("", "learn"), ExchangePlan("k", ""), ExchangePlan("k", 65 * "w"), ExchangePlan("k", "w", {"": 1})],
)
def test_an_invalid_plan_is_not_requested(tell: Tell, make_group: MakeGroup, plan: ExchangePlan) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, "a")
        await group.start()
        with pytest.raises(MethodError, match="cannot be requested"):
            await group.client.exchange(plan)
        assert group.peers["a"].exchanger.plans == []

    tell(story)


def test_a_plan_too_large_for_a_message_is_the_requesters_error(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, "a")
        await group.start()
        with pytest.raises(Exception, match="header is too long"):
            await group.exchange(text=300_000 * "x")
        assert (await group.exchange()).offered["a"] == {"s0": 1, "s1": 1}

    tell(story)


def test_one_exchange_is_not_requested_twice_at_a_time(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, "a")
        await group.start()
        waiting = asyncio.ensure_future(group.exchange())
        await asyncio.sleep(0.1)
        with pytest.raises(MethodError, match="is under way already"):
            await group.exchange()
        assert (await waiting).key == "k"

    tell(story)


def test_exchanges_of_different_keys_run_side_by_side(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        records = await asyncio.gather(*(group.exchange(f"k{number}") for number in range(3)))
        assert [record.key for record in records] == ["k0", "k1", "k2"]
        assert all(record.absorbed["a"] == ("b", "c") for record in records)

    tell(story)


def test_the_work_is_done_once_for_all_requesters(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        one = group.client
        other = await group.add_driver("other")
        both = await asyncio.gather(*(each.exchange(ExchangePlan("k", "learn")) for each in (one, other)))
        assert group.comparable(both[0]) == group.comparable(both[1])
        assert both[0].bytes_sent == both[1].bytes_sent
        assert all(len(each.exchanger.plans) == 1 for each in group.peers.values())

    tell(story)


class TestWhoIsMissing:
    def test_an_expected_client_that_is_not_there_is_named(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            group.crash("c")
            await asyncio.sleep(5)
            record = await group.exchange()
            assert list(record.lost) == ["c"]
            assert record.lost["c"].startswith("lost: its connection broke")
            assert record.absorbed == {"a": ("b",), "b": ("a",)}

        tell(story)

    def test_without_clients_there_is_no_quorum(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a", "b")
            await group.start(seconds=group.slow)
            waiting = asyncio.ensure_future(group.exchange())
            await asyncio.sleep(1)
            group.crash("a")
            group.crash("b")
            with pytest.raises(NoQuorum, match="0 of 1 needed peers contributed"):
                await waiting
            with pytest.raises(NoQuorum):
                await group.exchange("l")

        tell(story)

    def test_a_missed_quorum_names_the_missing(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start(quorum=3)
            with pytest.raises(NoQuorum, match=r"2 of 3 needed .*b: declined: it has nothing to offer"):
                await group.exchange(declines="b")

        tell(story)


class TestLate:
    def test_under_wait_a_slow_client_is_waited_for(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a", "b")
            await group.peer("a")
            await group.peer("b", seconds=group.slow)
            await group.add_driver()
            record = await group.exchange()
            assert list(record.offered) == ["a", "b"]
            assert record.seconds >= 60

        tell(story)

    def test_under_survivors_a_late_client_is_named_and_its_offers_are_absorbed_later(
        self, tell: Tell, make_group: MakeGroup
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.peer("a")
            await group.peer("b")
            await group.peer("c", seconds=group.slow)
            await group.add_driver(kind="survivors", quorum=2, cold_start=10.0)
            record = await group.exchange()
            assert (list(record.offered), record.late, record.lost) == (["a", "b"], ("c",), {})
            assert record.absorbed == {"a": ("b",), "b": ("a",)}
            assert 10 <= record.seconds < 20
            await asyncio.sleep(100)
            assert {origin for origin, _ in group.peers["a"].exchanger.current()} == {"b", "c"}

        tell(story)

    def test_a_pause_of_the_requester_makes_nobody_late(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a", "b")
            await group.start(seconds=group.slow, hard_limit=70.0)
            loop = asyncio.get_running_loop()
            waiting = asyncio.ensure_future(group.exchange())
            await asyncio.sleep(1)
            loop._jumping.now += 75.0  # type: ignore[attr-defined]
            assert list((await waiting).offered) == ["a", "b"]

        tell(story)


class TestStopping:
    def test_offers_and_then_verdicts_are_reported(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            reports: list[tuple[str, int, int]] = []

            class Listener:
                def report(self, phase: str, done: int, total: int, **_values: float) -> None:
                    reports.append((phase, done, total))

            await group.client.exchange(ExchangePlan("k", "learn"), Listener())
            assert reports[0] == ("offer: learn", 0, 3)
            assert reports == sorted(reports, key=lambda report: (report[0] != "offer: learn", report[1]))
            assert {phase for phase, _, _ in reports} == {"offer: learn", "absorb: learn"}

        tell(story)

    def test_a_progress_that_raises_stopped_ends_the_exchange(self, tell: Tell, make_group: MakeGroup) -> None:
        class Stopping:
            def report(self, *_report: Any, **_values: float) -> None:
                raise Stopped

        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start(seconds=group.slow)
            with pytest.raises(Stopped):
                await group.client.exchange(ExchangePlan("k", "learn"), Stopping())
            assert not group.client._pending

        tell(story)

    def test_a_cancelled_exchange_may_be_requested_again(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start(seconds=group.slow)
            waiting = asyncio.ensure_future(group.exchange())
            await asyncio.sleep(1)
            waiting.cancel()
            await asyncio.sleep(1)
            assert list((await group.exchange()).offered) == ["a", "b", "c"]
            assert len(group.peers["a"].exchanger.plans) == 1

        tell(story)


def test_messages_of_strangers_and_about_other_exchanges_are_dropped(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, "a", "b")
        await group.start(seconds=group.slow)
        waiting = asyncio.ensure_future(group.exchange())
        await asyncio.sleep(1)
        forger = await cluster.forger("stranger").link(group.driver)
        offered: dict[str, Any] = {"versions": {"s0": 1}, "values": {}, "bytes_sent": 0}
        for number, key in enumerate("kl", 1):
            forger.say("to/driver/", wire.OfferList(key=key, **offered), number)
        forger.say("to/driver/", wire.ExchangeDecline(key="k", reason="no"), 3)
        forger.say("to/driver/", wire.OfferVerdict(key="k", origin="a", refused={}), 4)
        record = await waiting
        assert list(record.offered) == ["a", "b"]
        assert "stranger" not in record.lost

    tell(story)
