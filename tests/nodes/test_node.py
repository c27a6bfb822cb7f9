"""A member of a run finds the others, each once, and ends in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nodes.errors import NodeError
from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport.memory import Faults, MemoryNetwork
from protocol import codec
from protocol.codec import Envelope
from protocol.messages import (
    Hello,
    ProgressReport,
    Welcome,
)
from protocol.topics import PROGRESS
from tests.cases import first

Tell = Callable[..., Any]

progress_report = partial(ProgressReport, done=0, total=0, values={})


class TestMembership:
    @pytest.mark.parametrize("count", [2, 5, 10])
    @pytest.mark.parametrize("shape", ["star", "chain"])
    def test_one_address_leads_to_everybody(self, tell: Tell, count: int, shape: str) -> None:
        async def story(cluster: Any) -> None:
            nodes = [(await cluster.start("n0"))[0]]
            for index in range(1, count):
                through = "n0" if shape == "star" else f"n{index - 1}"
                nodes.append((await cluster.start(f"n{index}", through))[0])
            await asyncio.sleep(1)
            assert cluster.linked(*nodes)

        tell(story)

    def test_the_door_may_open_later_than_the_knock(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            early, _ = await cluster.start("early", "late")
            await asyncio.sleep(30)
            late, _ = await cluster.start("late")
            await asyncio.sleep(1)
            assert cluster.linked(early, late)

        tell(story)

    @pytest.mark.parametrize("seed", first(2, range(4)))
    def test_loss_and_disorder_only_slow_it_down(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            nodes = [(await cluster.start(f"n{index}", "n0"))[0] for index in range(5)]
            for _ in range(200):
                await asyncio.sleep(0.1)
                if cluster.linked(*nodes):
                    return
            pytest.fail(f"not linked after 20 s: {[list(node.presence.linked()) for node in nodes]}")

        tell(story, Faults(drop=0.3, duplicate=0.1, delay=(0.0, 0.4), heartbeats_too=True), seed)

    def test_each_is_told_once_of_each_other(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            ears = [(await cluster.start(f"n{index}", "n0"))[1] for index in range(4)]
            await asyncio.sleep(10)
            for index, ear in enumerate(ears):
                assert sorted(ear.events) == [("linked", f"n{other}") for other in range(4) if other != index]

        tell(story, Faults(duplicate=0.5, delay=(0.0, 0.2)))


def test_what_was_sent_is_counted_by_kind_and_once_however_many_hear_it(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        node, _ = await cluster.start("a")
        for name in "bc":
            await cluster.start(name, "a")
        await asyncio.sleep(1)
        node.publish(PROGRESS, progress_report(phase="one"))
        once = node.sent["progress_report"]
        envelope = Envelope(PROGRESS, "test", "a", node.presence.me.incarnation, 1, progress_report(phase="one"))
        assert once == sum(map(len, codec.encode(envelope)))
        node.publish(PROGRESS, progress_report(phase="two"))
        assert node.sent["progress_report"] == 2 * once

    tell(story)


def test_a_welcome_names_the_life_that_it_welcomes(tell: Tell) -> None:
    async def story(cluster: Any) -> None:
        node, _ = await cluster.start("one")
        forger = await cluster.forger(incarnation=77).link(node)
        assert {welcome.receiver_incarnation for welcome in forger.messages(Welcome)} == {77}
        assert forger.messages(Hello)[0].peer == node.presence.me

    tell(story)


@pytest.mark.parametrize("given", [{"advertise": "foo"}, {"advertise": "tcp://host"}, {"join": ("tcp://127.0.0.1:0",)}])
async def test_what_is_no_address_is_refused_before_anything_is_opened(given: Any) -> None:
    node = Node(NodeSpec("a", "client", "test", "memory://a", **given), MemoryNetwork().bus())
    with pytest.raises(NodeError, match="no address of a node"):
        await node.__aenter__()


class TestWorks:
    def node(self) -> Node:
        return Node(NodeSpec("a", "client", "test", "memory://a"), MemoryNetwork().bus())

    async def test_nothing_begins_while_the_node_ends(self, recwarn: pytest.WarningsRecorder) -> None:
        """Neither while other works still end nor after the last: it would be waited for, or never awaited."""
        node, begun, late = self.node(), [], []

        async def begins(when: str) -> None:
            begun.append(when)
            await asyncio.Event().wait()

        async def ends() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                late.append(node.spawn(begins("meanwhile"), "late"))

        async with asyncio.timeout(10), node:
            node.spawn(ends(), "ends")
            await asyncio.sleep(0)
        late.append(node.spawn(begins("after"), "later"))
        await asyncio.wait(late)
        gc.collect()
        assert [work.cancelled() for work in late] == [True, True]
        assert not begun
        assert not [str(each.message) for each in recwarn if "never awaited" in str(each.message)]

    async def test_nothing_begins_once_a_work_has_failed(self) -> None:
        node = self.node()
        late: list[Any] = []

        async def fails() -> None:
            raise NodeError("on purpose")

        async def comes_late() -> None:
            late.append("begun")

        def begin(_failed: object) -> None:
            late.append(node.spawn(comes_late(), "late"))

        async def lives() -> None:
            async with asyncio.timeout(10), node:
                node.spawn(fails(), "fails").add_done_callback(begin)
                await asyncio.Event().wait()

        with pytest.raises(BaseExceptionGroup) as ended:
            await lives()
        assert [str(error) for error in ended.value.exceptions] == ["on purpose"]
        (work,) = late
        assert work.cancelled()
