"""The role of somebody who only asks: it waits for the clients, does a method's job by asking, and leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from fednet.conversations import Ask, Question, Replies, Watch
from nodes.catalog import METHODS
from nodes.compute import Compute, ThreadWatch, unless
from nodes.node import Node
from nodes.progress import speaker
from nodes.queries.asker import Asker
from nodes.roster import Roster
from nodes.spec import NodeSpec
from nodes.zmq_bus import ZmqBus

T = TypeVar("T")

Job = Callable[[Ask, Mapping[str, str], Watch], T]
"""What a guest does: it gets a way to ask, the clients' cards and a watch."""


async def visit(spec: NodeSpec, job: Job[T], stop: asyncio.Event) -> T:
    """Joins a run, waits until its clients are ready, does a job on a thread of its own, and leaves.

    Raises:
        PeersMissing: the clients were not ready in time.
        NoQuorum: too few were left while the job was being done.
        MethodError: the job cannot be done.
        Stopped: `stop` was set first.
    """
    node = Node(spec, ZmqBus())
    roster = Roster(node, spec.expected)
    asker = Asker(node, roster, spec.policy)
    node.add(roster)
    node.add(asker)
    remark = Remark()
    watch = ThreadWatch(speaker(node, remark))
    solver = Compute(f"{spec.name}-solver")
    try:
        async with node:
            cards = await unless(stop, watch, asyncio.ensure_future(roster.complete(spec.timing.ready)))
            ask = remark.listen(asker.from_thread())
            return await unless(stop, watch, solver.run(lambda: job(ask, cards, watch)))
    finally:
        watch.stop()
        asker.close()
        solver.close()
        await solver.ended()


async def guest(spec: NodeSpec, stop: asyncio.Event) -> None:
    """Does the job of the run's method; its results lie in the run's folder."""

    def job(ask: Ask, cards: Mapping[str, str], watch: Watch) -> None:
        assert spec.config is not None  # noqa: S101 - a run's guest is never planned without
        METHODS[spec.method].run(spec.config, ask, cards, spec.folder, spec.seed, watch)

    await visit(spec, job, stop)


class Remark:
    """Who answered the last question, as a remark for those who watch: `a1 a2 a4 · lost a3`."""

    def __init__(self) -> None:
        self._text = ""

    def __call__(self) -> str:
        """The remark."""
        return self._text

    def listen(self, ask: Ask) -> Ask:
        """The same ask, listened to."""

        def heard(question: Question) -> Replies:
            replies = ask(question)
            parts = [" ".join(replies.by_node)]
            parts += [f"late {' '.join(replies.late)}"] if replies.late else []
            parts += [f"lost {' '.join(replies.lost)}"] if replies.lost else []
            self._text = " · ".join(parts)
            return replies

        return heard
