"""What the soak drivers share: members in processes of their own, and a guest here that asks and orders rounds.

The members train and answer with next to no work, so that what is measured is the bus. They keep closed rounds on
disk, as clients do, and are started again under their name and address. Everything runs on loopback.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fednet.api import ModelState, Progress, Question, Replies, RoundPlan, RoundRecord, RoundTask, Update
from fednet.federated.config import Federation
from nodes.blob_store import BlobStore
from nodes.compute import ComputeThread
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.queries.client import QueryClient
from nodes.queries.responder import QueryResponder
from nodes.rounds.client import RoundsClient
from nodes.rounds.service import RoundService
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport
from tests.ports import free_ports

WORK = 0.05
"""Seconds that a contribution takes: it sleeps, so that members of one machine do not wait for its cores."""
VALUES = 4096
"""Numbers of the model that the rounds are about, and of a question."""


class Walker:
    """A site: answers with twice what it was asked, and contributes a step of its own size from the base."""

    def __init__(self, place: int, values: int = VALUES) -> None:
        self.place, self.values = place, values

    def prepare(self, progress: Progress) -> str:
        """Nothing to prepare."""
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Twice x, in no time; of a large x only the first number."""
        if question.task == "first":
            return {"y": question.inputs["x"][:1].clone()}
        return {"y": 2 * question.inputs["x"] + self.place}

    def initial_state(self, model: str) -> ModelState:
        """Zeros."""
        return {"w": torch.zeros(self.values)}

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """A step from the base, its size that of this member's place."""
        time.sleep(WORK)
        return Update({"w": base["w"] + self.place}, 1.0)

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class Host:
    """Where a node lives.

    Attributes:
        address: of its machine.
        namespace: the network namespace that is its machine; none for this one.
    """

    address: str = "127.0.0.1"
    namespace: str = ""

    def enter(self) -> None:
        """Moves this thread, and all that it starts, into the namespace."""
        if self.namespace:
            with Path(f"/run/netns/{self.namespace}").open("rb") as there:
                if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), 0):
                    raise OSError(ctypes.get_errno(), f"cannot enter {self.namespace}")


def work(spec: NodeSpec, host: Host, lifeline: Connection, values: int) -> None:
    """A member's process: it takes part until it is killed, or whoever holds the other end of its lifeline is gone."""
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    host.enter()
    torch.set_num_threads(1)
    asyncio.run(_take_part(spec, values))


def _end_with(lifeline: Connection) -> None:
    try:
        lifeline.recv()
    except EOFError:
        os._exit(1)


async def _take_part(spec: NodeSpec, values: int) -> None:
    node = Node(spec, ZmqTransport())
    compute, reducer = ComputeThread(spec.name), ComputeThread(f"{spec.name}-reducer")
    query_responder, capability_publisher, blobs = (
        QueryResponder(node, compute),
        CapabilityPublisher(node),
        BlobStore(node),
    )
    round_service = RoundService(node, compute, reducer, blobs, spec.folder / spec.name)
    for capability in (query_responder, capability_publisher, blobs, round_service):
        node.add(capability)
    walker = Walker(spec.index + 1, values)
    async with node:
        query_responder.open(walker, ("first", "double"))
        await round_service.open(walker)
        capability_publisher.show("{}")
        await asyncio.Event().wait()


@dataclass
class Cluster:
    """Members that can be killed, stopped and started again.

    Attributes:
        specs: the members by name.
        requester: asks them.
        rounds_client: requests rounds of them.
        directory: who can be asked.
        node: the guest here.
        hosts: where everybody lives.
        values: numbers of the model.
    """

    specs: Mapping[str, NodeSpec]
    node: Node
    directory: PeerDirectory
    query_client: QueryClient
    rounds_client: RoundsClient
    hosts: Mapping[str, Host]
    values: int = VALUES
    processes: dict[str, BaseProcess] = field(default_factory=dict)
    lifelines: dict[str, Connection] = field(default_factory=dict)

    async def start(self, name: str) -> None:
        """Starts a member (again)."""
        lifeline, self.lifelines[name] = multiprocessing.Pipe(duplex=False)
        what = self.specs[name], self.hosts[name], lifeline, self.values
        process = multiprocessing.get_context("forkserver").Process(target=work, args=what, daemon=True)
        await asyncio.to_thread(process.start)
        self.processes[name] = process

    def signal(self, name: str, number: signal.Signals) -> float:
        """Sends a member's process a signal; returns when, on `time.monotonic`'s clock."""
        pid = self.processes[name].pid
        assert pid is not None
        os.kill(pid, number)
        return time.monotonic()

    async def complete(self) -> None:
        """Waits until everybody is ready."""
        await self.directory.complete(60)

    async def ask(self) -> Replies:
        """One question to everybody; the answers are checked."""
        x = torch.rand(VALUES)
        replies = await self.query_client.ask(Question("double", {"x": x}))
        for name, outputs in replies.by_node.items():
            if not torch.equal(outputs["y"], 2 * x + self.specs[name].index + 1):
                raise SystemExit(f"{name} answered something else than it was asked")
        return replies

    async def run_rounds(self, key: str, rounds: int, **federation: Any) -> tuple[RoundRecord, ...]:
        """Has rounds held."""
        how = Federation.model_validate(federation)
        return await self.rounds_client.run_rounds(RoundPlan(key, "walk", "step", rounds, how))


@asynccontextmanager
async def cluster(count: int, hosts: Mapping[str, Host] | None = None, values: int = VALUES) -> AsyncIterator[Cluster]:
    """A cluster of `count` members a1, a2, ... and a guest; nobody of it is left at the end.

    Args:
        count: of the members.
        hosts: where they and the guest live, by name; all on this machine unless said.
        values: numbers of the model.
    """
    ports = free_ports()
    names = tuple(f"a{place}" for place in range(1, count + 1))
    hosts = hosts or dict.fromkeys((*names, "guest"), Host())
    addresses = {name: f"tcp://{hosts[name].address}:{next(ports)}" for name in (*names, "guest")}
    with tempfile.TemporaryDirectory(prefix="fednet-soak-", ignore_cleanup_errors=True) as folder:

        def spec(name: str, role: Any, index: int = 0) -> NodeSpec:
            endpoints = tuple(address for other, address in addresses.items() if other != name)[:3]
            return NodeSpec(
                name, role, "soak", addresses[name], join=endpoints, expected=names, index=index, folder=Path(folder),
                insecure=True,
            )  # fmt: skip

        hosts["guest"].enter()
        node = Node(spec("guest", "guest"), ZmqTransport())
        directory, blobs = PeerDirectory(node, names), BlobStore(node)
        query_client, rounds_client = (
            QueryClient(node, directory, node.spec.policy),
            RoundsClient(node, directory, blobs),
        )
        for capability in (directory, query_client, blobs, rounds_client):
            node.add(capability)
        specs = {name: spec(name, "client", index) for index, name in enumerate(names)}
        made = Cluster(specs, node, directory, query_client, rounds_client, hosts, values)
        try:
            async with node:
                for name in names:
                    await made.start(name)
                await made.complete()
                yield made
        finally:
            for process in made.processes.values():
                process.kill()
