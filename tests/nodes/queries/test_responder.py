"""The responder: nothing is computed that nobody waits for, nothing breaks it, and every question gets a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.errors import MethodError
from nodes.queries import responder
from nodes.queries.responder import MAX_OPEN
from protocol.messages import QueryAnswer, QueryRefusal, QueryRequest
from protocol.topics import QUERIES

Tell = Callable[..., Any]


def query(number: int, *, oldest: int | None = None, ttl: float = 60.0) -> QueryRequest:
    return QueryRequest(
        query=number,
        oldest_open=number if oldest is None else oldest,
        task="scale",
        inputs={"x": torch.tensor([float(number)])},
        options={},
        ttl=ttl,
    )


async def linked(cluster: Any, *, seconds: float = 0.0, ready: bool = True) -> tuple[Any, Any]:
    """A client with factor 2, and a forger that is linked to it."""
    client = await cluster.client("c", factor=2.0, seconds=seconds, ready=ready)
    return client, await cluster.forger().link(client.node)


def computed(client: Any) -> list[float]:
    return [asked.inputs["x"].item() for asked in client.answerer.asked]


def test_it_answers_the_one_who_asked(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster, seconds=1.5)
        other = await cluster.forger("other").link(client.node)
        forger.say(QUERIES, query(7), number=1)
        await asyncio.sleep(5)
        (answer,) = forger.messages(QueryAnswer)
        assert (answer.query, answer.outputs["y"].tolist()) == (7, [14.0])
        assert not [envelope for envelope in other.heard if envelope.topic == "to/forger/" and other.name == "forger"]

    tell(story)


def test_before_it_is_ready_it_refuses(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster, ready=False)
        forger.say(QUERIES, query(1), number=1)
        await asyncio.sleep(1)
        assert forger.messages(QueryRefusal) == [QueryRefusal(query=1, reason="not ready yet")]
        assert computed(client) == []

    tell(story)


def test_what_its_asker_has_moved_on_from_is_never_computed(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster, seconds=1.0)
        for number in range(1, 6):
            forger.say(QUERIES, query(number), number=number)
        await asyncio.sleep(20)
        assert computed(client) == [5.0]
        assert [answer.query for answer in forger.messages(QueryAnswer)] == [5]

    tell(story)


def test_questions_of_one_step_are_all_computed_in_order(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster, seconds=1.0)
        for number in range(1, 6):
            forger.say(QUERIES, query(number, oldest=1), number=number)
        await asyncio.sleep(20)
        assert computed(client) == [1.0, 2.0, 3.0, 4.0, 5.0]

    tell(story)


def test_one_askers_step_is_not_anothers(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster, seconds=1.0)
        other = await cluster.forger("other").link(client.node)
        forger.say(QUERIES, query(3), number=1)
        other.say(QUERIES, query(1), number=1)
        await asyncio.sleep(20)
        assert sorted(computed(client)) == [1.0, 3.0]

    tell(story)


def test_what_waited_longer_than_its_asker_does_is_never_computed(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster, seconds=10.0)
        for number, ttl in enumerate([60.0, 5.0, 60.0], start=1):
            forger.say(QUERIES, query(number, oldest=1, ttl=ttl), number=number)
        await asyncio.sleep(60)
        assert computed(client) == [1.0, 3.0]
        assert [answer.query for answer in forger.messages(QueryAnswer)] == [1, 3]

    tell(story)


def test_what_a_departed_asker_asked_is_never_computed(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster, seconds=10.0)
        forger.say(QUERIES, query(1, oldest=1), number=1)
        forger.say(QUERIES, query(2, oldest=1), number=2)
        await asyncio.sleep(1)
        forger.bus.crash()
        await asyncio.sleep(60)
        assert computed(client) == [1.0]

    tell(story)


def test_what_an_earlier_life_asked_is_not_answered_to_the_next(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        client, old = await linked(cluster, seconds=10.0)
        old.say(QUERIES, query(50), number=1)
        old.say(QUERIES, query(51, oldest=50), number=2)
        await asyncio.sleep(1)
        old.bus.crash()
        new = await cluster.forger(incarnation=2).link(client.node)
        new.say(QUERIES, query(1), number=1)
        await asyncio.sleep(60)
        assert computed(client) == [50.0, 1.0]
        assert [answer.query for answer in new.messages(QueryAnswer)] == [1]

    tell(story)


def test_too_many_waiting_questions_are_refused_and_then_it_is_open_again(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster, seconds=1.0)
        for number in range(1, MAX_OPEN + 4):
            forger.say(QUERIES, query(number, oldest=1), number=number)
        await asyncio.sleep(60)
        refused = forger.messages(QueryRefusal)
        assert [refusal.query for refusal in refused] == [MAX_OPEN + 1, MAX_OPEN + 2, MAX_OPEN + 3]
        assert "waiting here already" in refused[0].reason
        assert len(computed(client)) == MAX_OPEN
        forger.say(QUERIES, query(99), number=MAX_OPEN + 4)
        await asyncio.sleep(2)
        assert forger.messages(QueryAnswer)[-1].query == 99

    tell(story)


def test_many_askers_cannot_fill_the_memory_together(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responder, "MAX_WAITING", 3)

    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster, seconds=1.0)
        other = await cluster.forger("other").link(client.node)
        for number in (1, 2):
            forger.say(QUERIES, query(number, oldest=1), number=number)
            other.say(QUERIES, query(number, oldest=1), number=number)
        await asyncio.sleep(10)
        (reason,) = {refusal.reason for refusal in forger.messages(QueryRefusal)}  # it hears every inbox
        assert reason == "3 questions are waiting here already"
        assert len(computed(client)) == 3

    tell(story)


def _raise(error: Exception) -> Callable[[Any], Any]:
    def answer(_question: Any) -> Any:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (_raise(MethodError("x must be finite")), "x must be finite"),
        (_raise(MethodError("long " * 1000)), "long long"),
        (_raise(ZeroDivisionError("secret")), "ZeroDivisionError while answering; see this node's log"),
        (lambda _question: {"y": "no tensor"}, "while answering"),
        (lambda _question: {"": torch.zeros(1)}, "while answering"),
        (lambda _question: None, "while answering"),
        (lambda _question: {"y": torch.zeros((1,) * 20)}, "cannot be sent"),
    ],
    ids=["method", "long", "bug", "no tensor", "bad name", "nothing", "unsendable"],
)
def test_a_question_that_cannot_be_answered_is_refused_and_it_lives_on(
    tell: Tell, answer: Callable[[Any], Any], reason: str
) -> None:
    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster)
        well = client.answerer.answer
        client.answerer.answer = answer
        forger.say(QUERIES, query(1), number=1)
        await asyncio.sleep(2)
        (refusal,) = forger.messages(QueryRefusal)
        assert refusal.query == 1
        assert reason in refusal.reason
        assert "secret" not in refusal.reason
        client.answerer.answer = well
        forger.say(QUERIES, query(2), number=2)
        await asyncio.sleep(2)
        assert [given.query for given in forger.messages(QueryAnswer)] == [2]

    tell(story)


def test_answers_carry_no_graph(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        client, forger = await linked(cluster)
        client.answerer.answer = lambda asked: {"y": asked.inputs["x"] * torch.ones(1, requires_grad=True)}
        forger.say(QUERIES, query(3), number=1)
        await asyncio.sleep(1)
        (answer,) = forger.messages(QueryAnswer)
        assert answer.outputs["y"].tolist() == [3.0]

    tell(story)
