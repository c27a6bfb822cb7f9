"""Asking over a bus that loses, doubles, delays and reorders, among peers that crash, dawdle, refuse and return."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fednet.api import Replies
from fednet.errors import MethodError
from fednet.federated.local_network import local_ask
from nodes.errors import NoQuorum, PeerError
from nodes.node import BACKPRESSURE_BYTES
from nodes.transport.memory import Faults
from protocol.topics import QUERIES
from tests.cases import first

Tell = Callable[..., Any]
Ask = Callable[..., Any]


TROUBLE = Faults(drop=0.1, duplicate=0.05, delay=(0.0, 0.2))


async def clients(cluster: Any, count: int, seconds: float = 0.0) -> None:
    for index in range(count):
        await cluster.client(f"c{index}", factor=1.0 + index / 3, seconds=seconds)


def same(replies: Replies, others: Replies) -> bool:
    return list(replies.by_node) == list(others.by_node) and all(
        torch.equal(replies.by_node[name]["y"], others.by_node[name]["y"]) for name in others.by_node
    )


def _refuse(_question: Any) -> Any:
    raise MethodError("x must be (n, 3), not (3,)")


class TestWait:
    @pytest.mark.parametrize("count", [1, 4, 8])
    def test_the_bus_says_what_one_process_says(self, tell: Tell, question: Ask, count: int) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, count)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            local = local_ask({name: client.answerer for name, client in cluster.clients.items()})
            for number in range(10):
                replies = await guest.requester.ask(question(number))
                assert same(replies, local(question(number)))
                assert len(replies.by_node) == count

        tell(story)

    def test_a_slow_subscriber_slows_the_asker_and_never_the_heartbeats(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            guest.bus.stuck = BACKPRESSURE_BYTES + 1
            asked = asyncio.ensure_future(guest.requester.ask(question()))
            await asyncio.sleep(30)
            assert not asked.done()
            assert set(cluster.clients["c0"].node.presence.linked()) == {"c1", "guest"}
            guest.bus.stuck = BACKPRESSURE_BYTES
            await asyncio.sleep(0.2)
            assert len(asked.result().by_node) == 2

        tell(story)

    def test_who_gives_up_does_not_wait_for_room(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 1)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            guest.bus.stuck = BACKPRESSURE_BYTES + 1
            asked = asyncio.ensure_future(guest.requester.ask(question()))
            await asyncio.sleep(1)
            asked.cancel()
            guest.bus.stuck = BACKPRESSURE_BYTES
            await asyncio.sleep(1)
            assert asked.cancelled()
            assert QUERIES not in guest.node._publisher.outbox.latest, "asked although nobody waits"

        tell(story)

    def test_who_is_gone_holds_nobody_up_and_gets_nothing_more(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            guest.bus.stuck = BACKPRESSURE_BYTES + 1
            cluster.network.cut("memory://c0", "memory://guest")  # as if stopped: its connection stands
            for _ in range(3):
                replies = await guest.requester.ask(question())
                assert set(replies.by_node) == {"c1", "c2"}
            assert QUERIES not in guest.node._publisher.outbox.latest, "said to all, so to the one who is gone"
            cluster.network.heal("memory://c0", "memory://guest")
            await asyncio.sleep(1)
            assert len((await guest.requester.ask(question())).by_node) == 3
            assert guest.node._publisher.outbox.latest[QUERIES] == 1

        tell(story)

    def test_who_is_dead_is_out_of_the_way_of_what_is_said_to_all(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            cluster.clients["c0"].bus.crash()  # which breaks its connection
            await asyncio.sleep(5)
            assert len((await guest.requester.ask(question())).by_node) == 2
            assert guest.node._publisher.outbox.latest[QUERIES] == 1

        tell(story)

    @pytest.mark.parametrize("seed", first(2, range(6)))
    @pytest.mark.parametrize("heartbeats_too", [False, True])
    def test_trouble_on_the_way_changes_no_reply_and_loses_none(
        self, tell: Tell, question: Ask, seed: int, heartbeats_too: bool
    ) -> None:
        faults = Faults(TROUBLE.drop, TROUBLE.duplicate, TROUBLE.delay, heartbeats_too)

        async def story(cluster: Any) -> None:
            await clients(cluster, 5)
            guest = await cluster.guest(expected=list(cluster.clients))
            await guest.directory.complete(60)
            local = local_ask({name: client.answerer for name, client in cluster.clients.items()})
            for number in range(30):
                replies = await guest.requester.ask(question(number))
                assert same(replies, local(question(number)))
                assert (replies.late, replies.lost) == ((), {})
            assert cluster.network.lost > 20

        tell(story, faults, seed)

    def test_each_question_is_computed_once_by_each(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            guest = await cluster.guest(expected=list(cluster.clients))
            await guest.directory.complete(60)
            for number in range(20):
                await guest.requester.ask(question(number))
            await asyncio.sleep(5)
            for client in cluster.clients.values():
                assert [asked.inputs["x"][0].item() for asked in client.answerer.asked] == list(range(20))

        tell(story, Faults(drop=0.1, duplicate=0.5, delay=(0.0, 0.2)))

    def test_somebody_slow_is_waited_for(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            slow = await cluster.client("slow", seconds=50.0)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            replies = await guest.requester.ask(question())
            assert set(replies.by_node) == {"c0", "c1", "c2", "slow"}
            slow.compute.seconds = 70.0
            replies = await guest.requester.ask(question())
            assert (set(replies.by_node), replies.late) == ({"c0", "c1", "c2"}, ("slow",))

        tell(story)

    def test_options_and_names_travel(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 1)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            await guest.requester.ask(question(1, t=0.5, probe_seed=None, divergence=True, label="x", n=3))
            (asked,) = cluster.clients["c0"].answerer.asked
            assert asked.task == "scale"
            assert asked.options == {"t": 0.5, "probe_seed": None, "divergence": True, "label": "x", "n": 3}

        tell(story)


class TestSomeOnly:
    def test_only_they_hear_the_question_and_the_others_are_neither_late_nor_lost(
        self, tell: Tell, question: Ask
    ) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 4)
            guest = await cluster.guest(expected=list(cluster.clients))
            await guest.directory.complete(60)
            cluster.clients["c3"].bus.crash()
            await asyncio.sleep(5)
            for number in range(20):
                replies = await guest.requester.ask(replace(question(number), to=("c2", "c0", "c2")))
                assert (list(replies.by_node), replies.late, replies.lost) == (["c0", "c2"], (), {})
                assert replies.by_node["c2"]["y"][0] == pytest.approx(number * 5 / 3)
            assert len(cluster.clients["c0"].answerer.asked) == len(cluster.clients["c2"].answerer.asked) == 20
            assert cluster.clients["c1"].answerer.asked == []

        tell(story, TROUBLE)

    def test_fewer_than_the_quorum_suffice_where_fewer_are_asked(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            cluster.clients["c1"].answerer.answer = _refuse
            guest = await cluster.guest(quorum=3)
            await guest.directory.complete(10)
            assert list((await guest.requester.ask(replace(question(), to=("c2",)))).by_node) == ["c2"]
            with pytest.raises(NoQuorum, match=r"1 of 2 needed peers contributed \(c2\); missing: c1: refused: x must"):
                await guest.requester.ask(replace(question(), to=("c1", "c2")))

        tell(story)

    @pytest.mark.parametrize("to", [("c9",), ("c0", "c9"), ("c0", "slow"), ("c0", "gone"), ("guest",)])
    def test_somebody_who_cannot_be_asked_is_named_before_anything_is_said(
        self, tell: Tell, question: Ask, to: tuple[str, ...]
    ) -> None:
        reasons = {"c9": "never seen", "slow": "not ready yet", "gone": "left: stopped", "guest": "never seen"}

        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            await cluster.client("slow", ready=False)
            gone = await cluster.client("gone")
            guest = await cluster.guest()
            await asyncio.sleep(5)
            await gone.node.__aexit__(None, None, None)
            await asyncio.sleep(1)
            absent = to[-1]
            with pytest.raises(PeerError, match=rf"cannot ask {absent} \({reasons[absent]}\); there are c0, c1$"):
                await guest.requester.ask(replace(question(), to=to))
            await asyncio.sleep(5)
            assert cluster.clients["c0"].answerer.asked == []
            assert guest.requester._open == {}

        tell(story)

    def test_a_client_of_another_configuration_is_not_of_the_run(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest(expected=["c0"])
            await guest.directory.complete(10)
            with pytest.raises(PeerError, match=r"cannot ask c1 \(not of this run\)"):
                await guest.requester.ask(replace(question(), to=("c1",)))

        tell(story)

    def test_a_question_to_nobody_is_no_quorum(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            with pytest.raises(NoQuorum):
                await guest.requester.ask(replace(question(), to=()))

        tell(story)


class TestEach:
    """Tensors for single responders."""

    @staticmethod
    def to_each(question: Any, **numbers: float) -> Any:
        return replace(question(), inputs={}, each={name: {"x": torch.tensor([x])} for name, x in numbers.items()})

    def test_each_gets_its_own_and_the_bus_says_what_one_process_says(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            guest = await cluster.guest(expected=list(cluster.clients))
            await guest.directory.complete(60)
            local = local_ask({name: client.answerer for name, client in cluster.clients.items()})
            for number in range(10):
                asked = self.to_each(question, c2=number, c0=-number)
                replies = await guest.requester.ask(asked)
                assert list(replies.by_node) == ["c0", "c2"]
                assert same(replies, local(asked))

        tell(story, TROUBLE)

    def test_who_is_absent_is_lost_and_the_quorum_counts_those_that_were_not_asked(
        self, tell: Tell, question: Ask
    ) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 4)
            guest = await cluster.guest(expected=list(cluster.clients), quorum=3)
            await guest.directory.complete(10)
            cluster.clients["c3"].bus.crash()
            await asyncio.sleep(5)
            replies = await guest.requester.ask(self.to_each(question, c0=1, c3=1))
            assert (list(replies.by_node), list(replies.lost)) == (["c0"], ["c3"])
            replies = await guest.requester.ask(self.to_each(question, c3=1))
            assert (dict(replies.by_node), list(replies.lost)) == ({}, ["c3"])
            cluster.clients["c0"].answerer.answer = _refuse
            with pytest.raises(NoQuorum, match=r"0 of 1 needed peers contributed"):
                await guest.requester.ask(self.to_each(question, c0=1))

        tell(story)
