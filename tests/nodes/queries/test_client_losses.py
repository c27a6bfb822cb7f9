"""A question outlives its responders: deaths, refusals, late answers, too few answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fednet.errors import MethodError
from nodes.errors import NoQuorum

Tell = Callable[..., Any]
Ask = Callable[..., Any]


async def clients(cluster: Any, count: int, seconds: float = 0.0) -> None:
    for index in range(count):
        await cluster.client(f"c{index}", factor=1.0 + index / 3, seconds=seconds)


def _refuse(_question: Any) -> Any:
    raise MethodError("x must be (n, 3), not (3,)")


class TestLosses:
    @pytest.mark.parametrize("kind", ["wait", "survivors"])
    def test_who_crashes_over_a_question_is_left_behind_within_a_second(
        self, tell: Tell, question: Ask, kind: str
    ) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3, seconds=0.1)
            dying = await cluster.client("dying", seconds=5.0)
            guest = await cluster.guest(expected=list(cluster.clients), kind=kind)
            await guest.directory.complete(10)
            loop = asyncio.get_running_loop()
            loop.call_later(0.5, dying.bus.crash)
            started = loop.time()
            replies = await guest.requester.ask(question())
            assert loop.time() - started < 0.5 + 1.0
            assert list(replies.by_node) == ["c0", "c1", "c2"]
            assert list(replies.lost) == ["dying"]
            assert replies.lost["dying"].startswith("lost: its connection broke")
            replies = await guest.requester.ask(question())
            assert (list(replies.by_node), list(replies.lost)) == (["c0", "c1", "c2"], ["dying"])

        tell(story)

    def test_who_is_cut_off_over_a_question_is_left_behind_after_the_silence(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            cluster.network.cut("memory://c1", "memory://guest")
            loop = asyncio.get_running_loop()
            started = loop.time()
            replies = await guest.requester.ask(question())
            assert 2.5 < loop.time() - started < 3.5
            assert replies.lost["c1"].startswith("lost: silent for 3")

        tell(story)

    def test_who_comes_back_takes_part_again(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            cluster.network.cut("memory://c1", "memory://guest")
            assert list((await guest.requester.ask(question())).by_node) == ["c0"]
            cluster.network.heal("memory://c1", "memory://guest")
            await asyncio.sleep(2)
            replies = await guest.requester.ask(question(9))
            assert (list(replies.by_node), replies.lost) == (["c0", "c1"], {})

        tell(story)

    def test_who_is_restarted_takes_part_again_once_it_is_ready(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest(expected=["c0", "c1"])
            await guest.directory.complete(10)
            for number in range(5):
                await guest.requester.ask(question(number))
            cluster.clients["c1"].bus.crash()
            again = await cluster.client("c1", factor=7.0, ready=False)
            await asyncio.sleep(2)
            replies = await guest.requester.ask(question())
            assert (list(replies.by_node), replies.lost) == (["c0"], {"c1": "not ready yet"})
            again.ready()
            await asyncio.sleep(1)
            replies = await guest.requester.ask(question())
            assert replies.by_node["c1"]["y"][0] == 7.0

        tell(story)

    def test_a_goodbye_over_a_question_is_no_wait_at_all(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            leaving = await cluster.client("leaving", seconds=50.0)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            loop = asyncio.get_running_loop()
            asked, started = asyncio.ensure_future(guest.requester.ask(question())), loop.time()
            await asyncio.sleep(0.1)
            await leaving.node.__aexit__(None, None, None)
            replies = await asked
            assert loop.time() - started < 0.2
            assert replies.lost == {"leaving": "left: stopped"}

        tell(story)

    def test_a_refusal_is_a_loss_with_its_reason(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            cluster.clients["c1"].answerer.answer = _refuse
            guest = await cluster.guest()
            await guest.directory.complete(10)
            replies = await guest.requester.ask(question())
            assert (list(replies.by_node), replies.lost) == (["c0"], {"c1": "refused: x must be (n, 3), not (3,)"})

        tell(story)


class TestSurvivors:
    def test_after_some_questions_who_is_far_slower_is_late(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 4, seconds=0.3)
            guest = await cluster.guest(kind="survivors", quorum=3, floor=0.2, cold_start=10.0)
            await guest.directory.complete(10)
            for number in range(4):
                assert (await guest.requester.ask(question(number))).late == ()
            cluster.clients["c2"].compute.seconds = 5.0
            loop = asyncio.get_running_loop()
            started = loop.time()
            replies = await guest.requester.ask(question())
            assert loop.time() - started < 1.0
            assert (list(replies.by_node), replies.late, replies.lost) == (["c0", "c1", "c3"], ("c2",), {})

        tell(story)

    def test_a_cold_start_is_patient(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            await cluster.client("slow", seconds=9.0)
            guest = await cluster.guest(kind="survivors", cold_start=10.0)
            await guest.directory.complete(10)
            assert (await guest.requester.ask(question())).late == ()

        tell(story)

    def test_who_was_late_is_asked_again(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            slow = await cluster.client("slow", seconds=11.0)
            guest = await cluster.guest(kind="survivors", cold_start=10.0)
            await guest.directory.complete(10)
            assert (await guest.requester.ask(question())).late == ("slow",)
            await asyncio.sleep(20)
            slow.compute.seconds = 0.0
            assert (await guest.requester.ask(question())).late == ()

        tell(story)


class TestNoQuorum:
    def test_nobody_to_ask_is_no_quorum_at_once(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            guest = await cluster.guest(expected=["c0"])
            with pytest.raises(NoQuorum) as caught:
                await guest.requester.ask(question())
            assert (caught.value.have, caught.value.need, caught.value.missing) == ((), 1, {"c0": "never seen"})

        tell(story)

    def test_too_few_say_who_is_missing_and_why(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 4)
            cluster.clients["c1"].compute.seconds = 50.0
            cluster.clients["c2"].answerer.answer = _refuse
            cluster.clients["c3"].compute.seconds = 1000.0
            guest = await cluster.guest(quorum=3, hard_limit=20.0)
            await guest.directory.complete(10)
            asyncio.get_running_loop().call_later(0.5, cluster.clients["c1"].bus.crash)
            with pytest.raises(NoQuorum) as caught:
                await guest.requester.ask(question())
            assert caught.value.have == ("c0",)
            assert caught.value.missing["c1"].startswith("lost: its connection broke")
            assert caught.value.missing["c2"].startswith("refused: x must be")
            assert caught.value.missing["c3"] == "late"
            assert "1 of 3 needed peers contributed (c0)" in str(caught.value)

        tell(story)
