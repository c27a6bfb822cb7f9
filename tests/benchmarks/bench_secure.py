"""What a secure round costs beside a plain one, and what keys cost a plain one: `make bench`.

The members of `bench_round`, ten of them and a model of a million parameters, close rounds with and without `secure`,
and as members of a second run whose every message is signed and encrypted, in alternating blocks. Beside the time stand
the bytes that a peer receives a round: everything that its bus hands on, contributions, shares of keys, votes and
heartbeats, without TCP's and ZeroMQ's own framing. What is received by all is what is sent by all, the guest's few
orders and records apart.

    python tests/benchmarks/bench_secure.py [--peers 10] [--megabytes 4] [--rounds 4] [--blocks 2]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from bench_round import Idle, fednet, spec
from rich.console import Console
from rich.table import Table

from nodes.blob_store import BlobStore
from nodes.compute import ComputeThread
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.rounds.client import RoundsClient
from nodes.rounds.service import RoundService
from nodes.transport.interface import TransportListener
from nodes.transport.zmq import ZmqTransport
from protocol.frames import Buffer
from protocol.security.budget import Cost
from protocol.security.keys import Keyring, PrivateKeys

SHARDED: dict[str, Any] = {"transport": "sharded"}
KINDS: dict[str, tuple[bool, dict[str, Any]]] = {
    "sharded": (False, SHARDED),
    "sharded, secure": (False, {"secure": {}}),
    "sharded, keys": (True, SHARDED),
}
"""The rounds that are compared: whether with keys, and the federation."""


class Meter:
    """Stands between a bus and who hears it, and counts what comes."""

    def __init__(self, listener: TransportListener) -> None:
        self._listener, self.heard = listener, 0

    def received(self, frames: Sequence[Buffer], origin: str = "") -> None:
        self.heard += sum(memoryview(frame).nbytes for frame in frames)
        self._listener.received(frames, origin)

    def charge(self, payer: str, cost: Cost, amount: float = 1.0) -> bool:
        return self._listener.charge(payer, cost, amount)

    def subscribed(self, topic: bytes, present: bool, origin: str = "") -> None:
        self._listener.subscribed(topic, present)

    def refused(self, kind: str, why: str) -> None:
        self._listener.refused(kind, why)


class MeteredBus(ZmqTransport):
    """The bus over ZeroMQ, with a meter at its ear."""

    meter: Meter

    async def open(self, listen: str, listener: TransportListener, through: str | None = None) -> tuple[str, str]:
        self.meter = Meter(listener)
        return await super().open(listen, self.meter, through)


def worker(name: str, names: tuple[str, ...], joins: tuple[str, str], ring: Keyring, pipe: Connection) -> None:
    """One peer, a member of both runs, which says how much it has heard whenever it is asked."""
    torch.set_num_threads(1)
    asyncio.run(_worker(name, names, joins, ring, pipe))


async def _worker(name: str, names: tuple[str, ...], joins: tuple[str, str], ring: Keyring, pipe: Connection) -> None:
    compute, reducer, buses = ComputeThread(name), ComputeThread(f"{name}-reducer"), []
    async with AsyncExitStack() as stack:
        for join, keys in zip(joins, (None, ring), strict=True):
            bus = MeteredBus(keys=keys)
            node = Node(replace(spec(name, "client", (join,), names), keys=keys), bus)
            blobs, capability_publisher = BlobStore(node), CapabilityPublisher(node)
            round_service = RoundService(node, compute, reducer, blobs, None)
            for capability in (blobs, capability_publisher, round_service):
                node.add(capability)
            await stack.enter_async_context(node)
            await round_service.open(Idle(names.index(name) + 1))
            capability_publisher.show("{}")
            buses.append(bus)
        while await asyncio.to_thread(pipe.recv) != "stop":
            pipe.send(sum(bus.meter.heard for bus in buses))
    compute.close()
    reducer.close()


async def heard(pipes: Sequence[Connection]) -> float:
    """Bytes that a peer has received since it began, the mean of all."""
    for pipe in pipes:
        pipe.send("heard")
    return statistics.mean([await asyncio.to_thread(pipe.recv) for pipe in pipes])


async def measure(peers: int, megabytes: int, rounds: int, blocks: int) -> dict[str, dict[str, float]]:
    """Starts the processes once and measures every kind; seconds and bytes a peer of one round."""
    processes = multiprocessing.get_context("forkserver")
    names = tuple(f"a{index}" for index in range(1, peers + 1))
    made = {name: PrivateKeys.make(name) for name in ("requester", *names)}
    rings = {name: Keyring.of(own, [each.public for each in made.values()]) for name, own in made.items()}
    clients, pipes, workers, directories = [], [], [], []
    async with AsyncExitStack() as stack:
        for keys in (None, rings["requester"]):
            node = Node(replace(spec("requester", "guest", (), names), keys=keys), ZmqTransport(keys=keys))
            directory, blobs = PeerDirectory(node, names), BlobStore(node)
            clients.append(RoundsClient(node, directory, blobs))
            for capability in (directory, blobs, clients[-1]):
                node.add(capability)
            await stack.enter_async_context(node)
            directories.append((directory, node.address))
        joins = directories[0][1], f"requester@{directories[1][1]}"
        for name in names:
            here, there = processes.Pipe()
            arguments = (name, names, joins, rings[name], there)
            workers.append(processes.Process(target=worker, args=arguments, daemon=True))
            workers[-1].start()
            pipes.append(here)
        for directory, _ in directories:
            await directory.complete(120)
        found = await _kinds(clients, pipes, megabytes, rounds, blocks)
        for pipe in pipes:
            pipe.send("stop")
    for process in workers:
        process.join(10)
    return found


async def _kinds(
    clients: Sequence[RoundsClient], pipes: Sequence[Connection], megabytes: int, rounds: int, blocks: int
) -> dict[str, dict[str, float]]:
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    amounts: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for block in range(-1, blocks):
        for kind, (keyed, federation) in KINDS.items():
            before = await heard(pipes)
            taken = await fednet(clients[keyed], megabytes, rounds, federation, f"{kind} {block}")
            if block >= 0:  # the first one warms up
                seconds[kind] += taken
                amounts[kind].append((await heard(pipes) - before) / (rounds + 1))  # one round begins each plan
    return {
        kind: {"seconds": statistics.median(seconds[kind]), "bytes": statistics.median(amounts[kind])} for kind in KINDS
    }


def show(found: dict[str, dict[str, float]], peers: int, megabytes: int) -> None:
    """Prints the table."""
    table = Table("round", "ms", "factor", "MB received a peer", "factor", "models")
    for kind, each in found.items():
        plain = found["sharded"]
        table.add_row(
            kind,
            f"{1e3 * each['seconds']:.0f}",
            f"{each['seconds'] / plain['seconds']:.2f}",
            f"{each['bytes'] / 1e6:.2f}",
            f"{each['bytes'] / plain['bytes']:.3f}",
            f"{each['bytes'] / (megabytes << 20):.2f}",
        )
    Console().print(f"{peers} peers x {megabytes << 18:,} float32 parameters", table)


def main() -> None:
    """Measures and prints; `--json FILE` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = asyncio.run(measure(arguments.peers, arguments.megabytes, arguments.rounds, arguments.blocks))
    show(found, arguments.peers, arguments.megabytes)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
