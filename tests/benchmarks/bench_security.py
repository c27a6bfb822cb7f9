"""What security costs: `make bench`.

A query step of one requester and a few answerers that compute nothing: without keys; with keys alone (every message
signed, closed end to end, and sent through CurveZMQ); and as sites run, with budgets charged and a trail at every
answerer, too, in short blocks that alternate in one run. Then what each part of keys costs alone, for a message of the
same size. Only the ratios mean anything on another machine: the second one is what all but the keys adds.

    python tests/benchmarks/bench_security.py [--answerers 1] [--sizes 204800 16777216]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fednet.api import Ask, Question
from nodes.compute import Bridge, ComputeThread
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.queries.client import QueryClient
from nodes.queries.responder import QueryResponder
from nodes.spec import NodeSpec
from nodes.trail import Trail, trail_file
from nodes.transport.zmq import ZmqTransport
from protocol import codec
from protocol.codec import Envelope
from protocol.limits import DEFAULT
from protocol.messages import QueryAnswer, Welcome
from protocol.quorum import QuorumPolicy
from protocol.security.authentication import MessageAuthenticator
from protocol.security.group_encryption import KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys

BLOCKS = 6
KINDS = ("open", "keys", "all")
ANYWHERE = "tcp://127.0.0.1:0"


class Echo:
    """An answerer that computes nothing."""

    def prepare(self, progress: object) -> str:
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        return {"score": question.inputs["x"]}


def worker(name: str, endpoints: Mapping[str, str], ring: Keyring, pipe: Connection) -> None:
    """One answering process with two clients: one in each run."""
    torch.set_num_threads(1)
    asyncio.run(_worker(name, endpoints, ring, pipe))


async def _worker(name: str, endpoints: Mapping[str, str], ring: Keyring, pipe: Connection) -> None:
    compute = ComputeThread(name)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        for kind in KINDS:
            keys = None if kind == "open" else ring
            node = Node(
                NodeSpec(name, "client", kind, ANYWHERE, join=(endpoints[kind],), keys=keys), ZmqTransport(keys=keys)
            )
            query_responder, capability_publisher = QueryResponder(node, compute), CapabilityPublisher(node)
            if kind == "all":
                trail = Trail(trail_file(folder, name), name, keys, folder)
                trail.begin(object())
                node.on_refusal, node.on_fault = trail.refused, trail.fault
                node.add(trail)
            else:
                node._accounts.charge = _free  # type: ignore[method-assign]
            node.add(query_responder)
            node.add(capability_publisher)
            await stack.enter_async_context(node)
            query_responder.open(Echo(), ("score",))
            capability_publisher.show("{}")
        await asyncio.to_thread(pipe.recv)
    compute.close()


def _free(*_payer: object, **_how: object) -> bool:
    """No budget: whatever is asked is granted, and counted nowhere."""
    return True


def loop_steps(ask: Ask, x: Tensor, steps: int) -> list[float]:
    """Seconds of each step of a solver that only asks."""
    taken = []
    for step in range(steps):
        begun = time.perf_counter()
        ask(Question("score", {"x": x}, {"t": 1.0 - step / (steps + 1)}))
        taken.append(time.perf_counter() - begun)
    return taken


async def measure(answerers: int, sizes: list[int]) -> list[dict[str, Any]]:
    """Starts the processes once and measures every size."""
    processes = multiprocessing.get_context("forkserver")
    names = [f"a{index}" for index in range(1, answerers + 1)]
    made = {name: PrivateKeys.make(name) for name in ("requester", *names)}
    rings = {name: Keyring.of(own, [each.public for each in made.values()]) for name, own in made.items()}
    asks: dict[str, Ask] = {}
    directories, endpoints, pipes, workers = [], {}, [], []
    solver, bridge = ComputeThread("solver"), Bridge()
    async with AsyncExitStack() as stack:
        for kind in KINDS:
            keys = None if kind == "open" else rings["requester"]
            node = Node(
                NodeSpec("requester", "guest", kind, ANYWHERE, expected=tuple(names), keys=keys),
                ZmqTransport(keys=keys),
            )
            directory = PeerDirectory(node, tuple(names))
            query_client = QueryClient(node, directory, QuorumPolicy())
            if kind != "all":
                node._accounts.charge = _free  # type: ignore[method-assign]
            node.add(directory)
            node.add(query_client)
            await stack.enter_async_context(node)
            asks[kind] = partial(query_client.ask_blocking, bridge)
            endpoints[kind] = f"requester@{node.address}" if keys else node.address
            directories.append(directory)
        for name in names:
            here, there = processes.Pipe()
            workers.append(processes.Process(target=worker, args=(name, endpoints, rings[name], there), daemon=True))
            workers[-1].start()
            pipes.append(here)
        for directory in directories:
            await directory.complete(120)
        rows = [await _size(size, answerers, asks, solver) for size in sizes]
        for pipe in pipes:
            pipe.send("stop")
    solver.close()
    for process in workers:
        process.join(10)
    return rows


async def _size(size: int, answerers: int, asks: Mapping[str, Ask], solver: ComputeThread) -> dict[str, Any]:
    x = torch.randn(size // 4)
    steps = 100 if size < 1 << 20 else 10
    for ask in asks.values():
        await solver.run(partial(loop_steps, ask, x, 3))
    blocks: list[dict[str, float]] = []
    for block in range(BLOCKS):
        order = [KINDS[(block + place) % len(KINDS)] for place in range(len(KINDS))]
        taken = {kind: await solver.run(partial(loop_steps, asks[kind], x, steps)) for kind in order}
        blocks.append({kind: 1e3 * statistics.median(values) for kind, values in taken.items()})
    medians = {kind: statistics.median(each[kind] for each in blocks) for kind in KINDS}
    ratios = {
        "ratio": statistics.median(each["keys"] / each["open"] for each in blocks),
        "all ratio": statistics.median(each["all"] / each["keys"] for each in blocks),
    }
    return {"bytes": size, "answerers": answerers, **medians, **ratios, **parts(x)}


def parts(x: Tensor) -> dict[str, float]:
    """Milliseconds of each part of signing and closing one message, without a network."""
    made = {name: PrivateKeys.make(name) for name in ("a", "b")}
    rings = {name: Keyring.of(own, [each.public for each in made.values()]) for name, own in made.items()}
    guard, one, other = MessageAuthenticator(rings["a"], 1), KeyedSecurity(rings["a"], 2), KeyedSecurity(rings["b"], 1)
    envelope = Envelope("to/b/", "run", "a", 2, 1, QueryAnswer(query=1, outputs={"x": x}, seconds=0.0))
    plain = codec.encode(envelope)
    first = codec.encode(Envelope("to/b/", "run", "a", 2, 0, Welcome(receiver_incarnation=1)))
    other.read(one.encrypt(one.sign(first)), DEFAULT)
    signed = one.sign(plain)
    closed = iter([one.encrypt(one.sign(plain)) for _ in range(6)])
    return {
        "sign": _median(lambda: guard.sign(plain)),
        "close": _median(lambda: one.encrypt(signed)),
        "open and verify": _median(lambda: other.read(next(closed), DEFAULT)),
    }


def _median(work: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(taken)


def show(rows: list[dict[str, Any]]) -> None:
    """Prints the table."""
    measured = ("open", "keys", "ratio", "all", "all ratio", "sign", "close", "open and verify")
    columns = ("answerers", "bytes", "no keys", "keys", "ratio", "all", "all / keys", *measured[5:])
    table = Table(*columns, title="a query step there and back; then parts of one message, ms")
    for row in rows:
        table.add_row(str(row["answerers"]), f"{row['bytes']:,}", *(f"{row[name]:.2f}" for name in measured))
    Console().print(table)


def main() -> None:
    """Measures and prints; `--json FILE` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answerers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--sizes", type=int, nargs="+", default=[204800, 16777216])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for answerers in arguments.answerers:
        rows += asyncio.run(measure(answerers, arguments.sizes))
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
