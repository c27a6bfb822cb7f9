"""Asking from other threads, and after the event loop has stood still; the test plays the node and its peers."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fednet.api import Question, Stopped
from nodes.compute import Bridge
from nodes.errors import PeerError
from nodes.queries.client import STALL_THRESHOLD, QueryClient
from protocol.codec import Envelope
from protocol.errors import EncodingError
from protocol.messages import QueryAnswer, QueryRequest
from protocol.quorum import QuorumPolicy
from protocol.topics import QUERIES

PATIENCE = 20.0


@dataclass
class Bus:
    """Stands in for a node: remembers what was published, and by which thread."""

    stuck: bool = False
    blocked_by_lost_peer: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    published: list[QueryRequest] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    heard: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    looked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    broken: bool = False

    @property
    def backpressured(self) -> bool:
        self.looked.release()
        return self.stuck

    def publish(self, topic: str, query: QueryRequest) -> None:
        assert topic == QUERIES
        if self.broken:
            raise EncodingError("message is too large")
        self.published.append(query)
        self.threads.add(threading.get_ident())
        self.heard.release()


def asking(bus: Bus, names: tuple[str, ...] = ("a", "b"), **policy: Any) -> QueryClient:
    directory = SimpleNamespace(ready=lambda: dict.fromkeys(names, "{}"), missing=dict, absence=lambda _name: "gone")
    return QueryClient(bus, directory, QuorumPolicy(**policy))  # type: ignore[arg-type]


def answer(client: QueryClient, name: str, query: QueryRequest) -> None:
    """A peer answers with what it was asked."""
    outputs = {"y": query.inputs["x"]}
    message = QueryAnswer(query=query.query, outputs=outputs, seconds=0.0)
    client.handlers[QueryAnswer](Envelope("to/guest/", "test", name, 1, 1, message), message)


def about(value: float, **changes: Any) -> Question:
    return Question("echo", {"x": torch.tensor([value])}, **changes)


class TestThreads:
    async def test_who_asks_publishes_and_the_event_loop_need_not_wake_for_it(self) -> None:
        bus = Bus()
        client, bridge = asking(bus), Bridge()
        asked = asyncio.create_task(asyncio.to_thread(client.ask_blocking, bridge, about(1.0)))
        await asyncio.sleep(0)  # the thread is started; from here on the loop stands still
        assert bus.heard.acquire(timeout=PATIENCE)
        assert bus.threads != {threading.get_ident()}
        for name in ("a", "b"):
            answer(client, name, bus.published[0])
        assert list((await asked).by_node) == ["a", "b"]
        assert client._open == {}

    async def test_many_threads_ask_at_a_time(self) -> None:
        bus = Bus()
        client, bridge = asking(bus), Bridge()
        asked = [asyncio.create_task(asyncio.to_thread(client.ask_blocking, bridge, about(float(n)))) for n in range(4)]
        while len(bus.published) < 4:
            await asyncio.to_thread(bus.heard.acquire, timeout=PATIENCE)
        assert [query.oldest_open for query in bus.published] == [1] * 4
        for query in sorted(bus.published, key=lambda query: -query.query):
            for name in ("b", "a"):
                answer(client, name, query)
        replies = await asyncio.gather(*asked)
        assert [each.by_node["a"]["y"].item() for each in replies] == [0.0, 1.0, 2.0, 3.0]

    async def test_a_question_that_cannot_be_asked_is_the_threads_error_and_leaves_nothing_open(self) -> None:
        bus = Bus(broken=True)
        client, bridge = asking(bus), Bridge()
        with pytest.raises(EncodingError, match="too large"):
            await asyncio.to_thread(client.ask_blocking, bridge, about(1.0))
        with pytest.raises(PeerError, match=r"cannot ask c \(gone\)"):
            await asyncio.to_thread(client.ask_blocking, bridge, about(1.0, to=("a", "c")))
        assert client._open == {}

    async def test_closing_the_bridge_ends_the_wait_and_the_question(self) -> None:
        bus = Bus()
        client, bridge = asking(bus), Bridge()
        asked = asyncio.create_task(asyncio.to_thread(client.ask_blocking, bridge, about(1.0)))
        await asyncio.to_thread(bus.heard.acquire, timeout=PATIENCE)
        bridge.close()
        with pytest.raises(Stopped):
            await asked
        assert client._open == {}
        answer(client, "a", bus.published[0])  # comes too late, and disturbs nobody

    async def test_a_thread_waits_for_room(self) -> None:
        bus = Bus(stuck=True)
        client, bridge = asking(bus), Bridge()
        asked = asyncio.create_task(asyncio.to_thread(client.ask_blocking, bridge, about(1.0)))
        for _ in range(3):
            await asyncio.to_thread(bus.looked.acquire, timeout=PATIENCE)
        assert (bus.published, bus.counts["held back"] > 0) == ([], True)
        bus.stuck = False
        await asyncio.to_thread(bus.heard.acquire, timeout=PATIENCE)
        for name in ("a", "b"):
            answer(client, name, bus.published[0])
        assert len((await asked).by_node) == 2


class TestStandstill:
    def test_a_pause_of_this_node_is_discounted_once(self, fake_time: Any) -> None:
        async def story() -> None:
            bus, loop = Bus(), asyncio.get_running_loop()
            client = asking(bus, hard_limit=10.0)
            asked = asyncio.create_task(client.ask(about(1.0)))
            await asyncio.sleep(5.0)
            loop._jumping.now += 100.0  # type: ignore[attr-defined]  # stopped, while the answers lie in the sockets
            woken = loop.time()
            answer(client, "a", bus.published[0])
            replies = await asked
            assert loop.time() - woken == pytest.approx(STALL_THRESHOLD, abs=0.01)
            assert (list(replies.by_node), replies.late) == (["a"], ("b",))

        fake_time(story())

    def test_one_timer_serves_all_questions(self, fake_time: Any) -> None:
        async def story() -> None:
            bus, loop = Bus(), asyncio.get_running_loop()
            client = asking(bus, hard_limit=10.0)
            for number in range(50):
                asked = asyncio.create_task(client.ask(about(float(number))))
                await asyncio.sleep(0.001)
                for name in ("a", "b"):
                    answer(client, name, bus.published[-1])
                await asked
            assert len(loop._scheduled) == 1  # type: ignore[attr-defined]
            last = asyncio.create_task(client.ask(about(0.0)))
            began = loop.time()
            await asyncio.sleep(0.001)
            answer(client, "b", bus.published[-1])
            assert ((await last).late, loop.time() - began) == (("a",), pytest.approx(10.0, abs=0.01))

        fake_time(story())
