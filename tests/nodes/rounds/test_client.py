"""A request is repeated until its rounds are over, and no longer; plans become messages, and commits records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import RoundPlan, Stopped
from fednet.errors import MethodError
from fednet.federated.config import Adam, Federation, TrimmedMean
from nodes.errors import ModelsDiffer
from nodes.rounds.client import REQUEST_INTERVAL, to_plan_message, to_round_record
from protocol.messages import Message, RoundsRequest
from protocol.messages.round_values import BlobRef
from protocol.messages.rounds import RoundCommit

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]


def plan(**changes: Any) -> RoundPlan:
    fields: dict[str, Any] = {"key": "k", "model": "m", "task": "train", "rounds": 1, "federation": Federation()}
    return RoundPlan(**(fields | changes))


def sent_requests(group: Any) -> list[RoundsRequest]:
    """The requests that the driver sends from now on."""
    requests: list[RoundsRequest] = []
    publish = group.driver.publish

    def listen(topic: str, message: Message) -> None:
        if isinstance(message, RoundsRequest):
            requests.append(message)
        publish(topic, message)

    group.driver.publish = listen
    return requests


def test_a_request_is_repeated_with_the_records_that_have_come(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        requests = sent_requests(group)
        await group.run_rounds(rounds=8)
        after = [request.after for request in requests]
        assert len(after) > 3
        assert after == sorted(after)
        assert after[-1] > 2
        await asyncio.sleep(5 * REQUEST_INTERVAL)
        assert len(requests) == len(after), "its rounds are over"

    tell(story)


def test_a_cancelled_plan_is_not_requested_again(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        requests = sent_requests(group)
        given = {"w": torch.zeros(3, 2), "b": torch.zeros(1)}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await group.run_rounds(given=given)
        await asyncio.sleep(5 * REQUEST_INTERVAL)
        assert len(requests) == 1
        assert not group.client._blob_store._kept

    tell(story)


def test_every_record_is_handed_over_when_its_round_closes_and_then_reported(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        events: list[Any] = []

        class Listener:
            def report(self, phase: str, done: int, total: int, **values: float) -> None:
                events.append((phase, done, total, values["contributed"]))

        two_rounds = RoundPlan("k", "walk", "w", 2, Federation())
        records = await group.client.run_rounds(two_rounds, Listener(), events.append)
        assert events == [records[0], ("walk rounds", 1, 2, 3.0), records[1], ("walk rounds", 2, 2, 3.0)]

    tell(story)


def test_a_progress_that_raises_stopped_ends_the_plan(tell: Tell, make_group: MakeGroup) -> None:
    class Stopping:
        def report(self, *_report: Any, **_values: float) -> None:
            raise Stopped

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        requests = sent_requests(group)
        with pytest.raises(Stopped):
            await group.client.run_rounds(RoundPlan("k", "walk", "w", 50, Federation()), Stopping())
        before = len(requests)
        await asyncio.sleep(5 * REQUEST_INTERVAL)
        assert len(requests) == before

    tell(story)


@pytest.mark.parametrize("name", ["a", "c"])
def test_a_client_that_cannot_take_the_outcome_is_named_in_the_end(
    tell: Tell, make_group: MakeGroup, name: str
) -> None:
    def refuse(model: str, number: int, state: object) -> None:
        raise MethodError("no room")

    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        group.members[name].participant.adopt = refuse
        await group.run_rounds(rounds=2)
        with pytest.raises(ModelsDiffer, match=rf"not every site holds their last model: {name} \(walk\)"):
            await group.client.require_held()
        del group.members[name].participant.adopt
        await group.run_rounds("more")
        await group.client.require_held()

    tell(story)


def test_a_client_that_is_alive_and_behind_is_named_in_the_end(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        await group.run_rounds("run", model="run")
        cluster.network.cut("memory://a", "memory://c")
        await group.settle(5)
        await group.run_rounds(rounds=2)
        with pytest.raises(ModelsDiffer, match=r"not every site holds their last model: c \(walk\)"):
            await group.client.require_held()
        cluster.network.heal("memory://a", "memory://c")
        await group.client.require_held()
        assert len(group.digests()) == 1
        group.crash("c")
        await group.settle(5)
        await group.run_rounds("more")
        await group.client.require_held()  # of those that are alive

    tell(story)


def test_a_visitor_believes_a_majority_of_the_clients_that_it_has_met(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster)
        await group.start()
        group.crash("c")
        await group.add_driver("visitor", expected=())
        (record,) = await group.run_rounds()
        assert set(record.weights) == {"a", "b"}
        await group.client.require_held()

    tell(story)


@pytest.mark.parametrize(
    "changes", [{"key": ""}, {"rounds": 0}, {"model": "M"}, {"task": ""}, {"options": {"x": [1]}}, {"key": "x" * 200}]
)
def test_an_invalid_plan_is_refused_before_it_is_requested(changes: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match="cannot be requested"):
        to_plan_message(plan(**changes), "driver")


@pytest.mark.parametrize(
    "federation", [Federation(), Federation(rule=TrimmedMean(trim=0.3), server=Adam(tau=1e-9), participation=1 / 3)]
)
def test_a_federation_comes_back_exactly(federation: Federation) -> None:
    message, packed = to_plan_message(plan(federation=federation, options={"x": 0.1, "y": None}), "driver")
    assert Federation.model_validate_json(message.federation) == federation
    assert message.options == {"x": 0.1, "y": None}
    assert (message.given, packed) == (None, None)


def test_a_model_is_given_in_one_round() -> None:
    message, packed = to_plan_message(plan(replacement={"w": torch.zeros(3)}), "driver")
    assert packed is not None
    assert message.given is not None
    assert (message.given.digest, message.given.size) == (packed.tree.root, len(packed.file))
    with pytest.raises(MethodError, match="give it in one"):
        to_plan_message(plan(replacement={"w": torch.zeros(3)}, rounds=2), "driver")


def test_a_record_is_what_the_commit_tells() -> None:
    outcome = BlobRef(digest="0" * 64, size=3)
    commit = RoundCommit(
        model="m", number=9, term=2, attempt=5, key="k", index=3, rounds=4, leader="a",
        base="0" * 64, transcript="1" * 64, outcome=outcome,
        weights={"b": 2.0, "a": 1.0}, values={"b": {"l": 2.0}, "a": {}}, late=("c",), lost={"d": "left"}, refused={},
        seconds=1.5,
    )  # fmt: skip
    record = to_round_record(commit)
    assert list(record.weights) == list(record.values) == ["a", "b"]
    assert (record.number, record.late, record.lost, record.leader) == (9, ("c",), {"d": "left"}, "a")
    assert (record.values["b"], record.digest, record.seconds) == ({"l": 2.0}, outcome.digest, 1.5)
