"""Many sessions with keys, one after another: does any of them live by retransmission?

    python tests/soak/keyed.py [--sessions 50] [--clients 4] [--questions 40]

Every session starts its clients and a guest over real sockets within this process, in random order and up to `LATEST`
seconds apart; all join through the first client, and the guest asks its questions of all. Printed are the seconds of
the questions, and how many messages could not be decrypted (`early`) or were sent again. Ends with 1 where the 95th
percentile of the sessions is above twice their median.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

import torch
from rich.console import Console
from torch import Tensor

from fednet.api import Question
from nodes.compute import ComputeThread
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.queries.client import QueryClient
from nodes.queries.responder import QueryResponder
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport
from protocol.quorum import QuorumPolicy
from protocol.security.keys import Keyring, PrivateKeys

ANYWHERE = "tcp://127.0.0.1:0"
PATIENCE = 60.0
LATEST = 0.2
"""Seconds between two starts, at most."""


class Echo:
    """An answerer that computes nothing."""

    def prepare(self, progress: object) -> str:
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        return {"score": question.inputs["x"]}


class Session:
    """The nodes of one session."""

    def __init__(self, rings: Mapping[str, Keyring], stack: AsyncExitStack, compute: ComputeThread) -> None:
        self.nodes: list[Node] = []
        self._rings, self._stack, self._compute = rings, stack, compute

    async def start(self) -> tuple[PeerDirectory, QueryClient]:
        """Starts the clients and the guest, whose parts are returned."""
        guest, first, *others = self._rings
        await self._client(first)
        for name in random.sample([guest, *others], len(self._rings) - 1):
            await asyncio.sleep(random.uniform(0, LATEST))  # noqa: S311 - times, not secrets
            if name == guest:
                parts = await self._guest(name, (first, *others))
            else:
                await self._client(name)
        return parts

    def count(self, kind: str) -> int:
        """What was counted at all nodes."""
        return sum(node.counts[kind] for node in self.nodes)

    async def _client(self, name: str) -> None:
        node = self._node(name, "client")
        responder, publisher = QueryResponder(node, self._compute), CapabilityPublisher(node)
        node.add(responder)
        node.add(publisher)
        self.nodes.append(await self._stack.enter_async_context(node))
        responder.open(Echo(), ("score",))
        publisher.show("{}")

    async def _guest(self, name: str, clients: tuple[str, ...]) -> tuple[PeerDirectory, QueryClient]:
        node = self._node(name, "guest")
        directory = PeerDirectory(node, clients)
        requester = QueryClient(node, directory, QuorumPolicy())
        node.add(directory)
        node.add(requester)
        self.nodes.append(await self._stack.enter_async_context(node))
        return directory, requester

    def _node(self, name: str, role: str) -> Node:
        keys = self._rings[name]
        join = tuple(f"{node.name}@{node.address}" for node in self.nodes[:1])
        return Node(NodeSpec(name, role, "keyed", ANYWHERE, join=join, keys=keys), ZmqTransport(keys=keys))  # type: ignore[arg-type]


async def hold(rings: Mapping[str, Keyring], questions: int, compute: ComputeThread) -> tuple[float, int, int]:
    """Seconds of all questions of one session; messages that were early, and sent again, at all nodes."""
    async with AsyncExitStack() as stack:
        session = Session(rings, stack, compute)
        directory, requester = await session.start()
        await directory.complete(PATIENCE)
        begun = time.perf_counter()
        for number in range(questions):
            await requester.ask(Question("score", {"x": torch.zeros(64)}, {"t": number / questions}))
        return time.perf_counter() - begun, session.count("early"), session.count("resent")


async def measure(sessions: int, clients: int, questions: int) -> list[float]:
    """Holds the sessions and prints each."""
    made = [PrivateKeys.make(name) for name in ("guest", *(f"c{index}" for index in range(1, clients + 1)))]
    rings = {own.public.name: Keyring.of(own, [each.public for each in made]) for own in made}
    compute, taken = ComputeThread("echo"), list[float]()
    for number in range(1, sessions + 1):
        seconds, early, resent = await hold(rings, questions, compute)
        taken.append(seconds)
        Console().print(f"session {number}: {seconds:.2f} s, {early} early, {resent} sent again", highlight=False)
    compute.close()
    return taken


def main() -> None:
    """Measures, prints, and ends with 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--questions", type=int, default=40)
    given = parser.parse_args()
    taken = sorted(asyncio.run(measure(given.sessions, given.clients, given.questions)))
    median, high = statistics.median(taken), taken[int(0.95 * len(taken))]
    Console().print(f"median {median:.2f} s, 95th percentile {high:.2f} s, worst {taken[-1]:.2f} s", highlight=False)
    sys.exit(high > 2 * median)


if __name__ == "__main__":
    main()
