"""Answers that must not count: repeated, late, foreign, of another life; and what an abandoned question leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import Replies
from protocol.messages import Capabilities, QueryAnswer, QueryRefusal, QueryRequest
from protocol.topics import PRESENCE

Tell = Callable[..., Any]
Ask = Callable[..., Any]


async def clients(cluster: Any, count: int, seconds: float = 0.0) -> None:
    for index in range(count):
        await cluster.client(f"c{index}", factor=1.0 + index / 3, seconds=seconds)


class TestAnswersThatMustNotCount:
    """A forger that is linked and ready answers as it likes, beside one honest client."""

    def ask(self, tell: Tell, question: Ask, reply: Callable[[Any, QueryRequest], None]) -> Replies:
        async def story(cluster: Any) -> Replies:
            await cluster.client("honest", seconds=1.0)
            guest = await cluster.guest(hard_limit=5.0)
            await guest.directory.complete(10)
            forger = cluster.forger()
            forger.bus.subscribe(["queries/"])
            await forger.link(guest.node)
            forger.say(PRESENCE, Capabilities(text="{}", ready=True), number=1)
            await asyncio.sleep(0.1)
            asked = asyncio.ensure_future(guest.requester.ask(question()))
            await asyncio.sleep(0.1)
            (query,) = forger.messages(QueryRequest)
            reply(forger, query)
            replies: Replies = await asked
            return replies

        replies: Replies = tell(story)
        assert replies.by_node["honest"]["y"][0] == 1.0
        return replies

    @staticmethod
    def answer(query: int, value: float) -> QueryAnswer:
        return QueryAnswer(query=query, outputs={"y": torch.tensor([value])}, seconds=0.0)

    def test_the_first_answer_counts_and_no_second_one(self, tell: Tell, question: Ask) -> None:
        def reply(forger: Any, query: QueryRequest) -> None:
            forger.say("to/guest/", self.answer(query.query, 1.0), number=1)
            forger.say("to/guest/", self.answer(query.query, 2.0), number=2)
            forger.say("to/guest/", self.answer(query.query, 3.0), number=1)
            forger.say("to/guest/", QueryRefusal(query=query.query, reason="too late"), number=3)

        replies = self.ask(tell, question, reply)
        assert replies.by_node["forger"]["y"].tolist() == [1.0]
        assert replies.lost == {}

    def test_an_answer_to_no_open_question_is_dropped(self, tell: Tell, question: Ask) -> None:
        def reply(forger: Any, query: QueryRequest) -> None:
            forger.say("to/guest/", self.answer(query.query + 1, 2.0), number=1)
            forger.say("to/guest/", self.answer(0, 2.0), number=2)

        assert self.ask(tell, question, reply).late == ("forger",)

    def test_an_answer_of_an_earlier_life_is_dropped(self, tell: Tell, question: Ask) -> None:
        def reply(forger: Any, query: QueryRequest) -> None:
            forger.incarnation = 0
            forger.say("to/guest/", self.answer(query.query, 2.0), number=1)

        assert self.ask(tell, question, reply).late == ("forger",)

    def test_an_answer_in_the_name_of_a_stranger_is_dropped(self, tell: Tell, question: Ask) -> None:
        def reply(forger: Any, query: QueryRequest) -> None:
            forger.name = "stranger"
            forger.say("to/guest/", self.answer(query.query, 2.0), number=1)

        assert self.ask(tell, question, reply).late == ("forger",)

    def test_an_answer_of_another_run_is_dropped(self, tell: Tell, question: Ask) -> None:
        def reply(forger: Any, query: QueryRequest) -> None:
            forger.run = "other"
            forger.say("to/guest/", self.answer(query.query, 2.0), number=1)

        assert self.ask(tell, question, reply).late == ("forger",)


def test_a_late_answer_to_a_closed_question_changes_nothing(tell: Tell, question: Ask) -> None:
    async def story(cluster: Any) -> None:
        await clients(cluster, 2)
        await cluster.client("slow", factor=9.0, seconds=2.0)
        guest = await cluster.guest(kind="survivors", cold_start=1.0)
        await guest.directory.complete(10)
        first = await guest.requester.ask(question(1))
        assert first.late == ("slow",)
        await asyncio.sleep(0.5)
        second = await guest.requester.ask(question(2))
        await asyncio.sleep(10)
        assert list(first.by_node) == list(second.by_node) == ["c0", "c1"]
        assert second.by_node["c0"]["y"][0] == 2.0
        assert guest.requester._open == {}

    tell(story)


def test_who_no_longer_waits_for_an_answer_harms_nobody(tell: Tell, question: Ask) -> None:
    async def story(cluster: Any) -> None:
        await cluster.client("c0", seconds=2.0)
        guest = await cluster.guest()
        await guest.directory.complete(10)
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(guest.requester.ask(question(1)), 1.0)
        await asyncio.sleep(10)
        assert (await guest.requester.ask(question(2))).by_node["c0"]["y"][0] == 2.0
        assert failures == []
        assert guest.requester._open == {}

    tell(story)


def test_a_question_that_cannot_be_sent_leaves_nothing_open(tell: Tell, question: Ask) -> None:
    async def story(cluster: Any) -> None:
        await clients(cluster, 1)
        guest = await cluster.guest()
        await guest.directory.complete(10)
        with pytest.raises(ValueError, match="options"):
            await guest.requester.ask(question(1, **{"": 1}))
        assert guest.requester._open == {}
        assert (await guest.requester.ask(question())).lost == {}

    tell(story)


def test_nobody_is_late_because_the_asker_itself_stood_still(tell: Tell, question: Ask) -> None:
    async def story(cluster: Any) -> None:
        await clients(cluster, 3, seconds=2.0)
        guest = await cluster.guest(hard_limit=5.0)
        await guest.directory.complete(10)
        asked = asyncio.ensure_future(guest.requester.ask(question(1)))
        await asyncio.sleep(1)
        asyncio.get_running_loop()._jumping.now += 90  # type: ignore[attr-defined]  # SIGSTOP, SIGCONT
        replies = await asked
        assert (len(replies.by_node), replies.late) == (3, ())

    tell(story)
