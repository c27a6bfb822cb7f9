"""What a query step costs: `make bench`.

Every worker process holds both ends that are compared: a bare `zmq.asyncio` echo (PUB/SUB fan-out, PUB/SUB fan-in,
nothing else) and a fednet client whose model returns what it was given. The requester alternates between the two in
short blocks of one run, with the same payloads, so that a noisy machine disturbs both alike; beside them stands the
same loop in one process. Only the ratios mean anything on another machine.

    python tests/benchmarks/bench_query.py [--answerers 1 4 10] [--sizes 4096 204800 4194304] [--memory-steps 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch
import zmq
import zmq.asyncio
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fednet.api import Ask, Question
from fednet.federated.local_network import local_ask
from nodes.compute import Bridge, ComputeThread
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.queries.client import QueryClient
from nodes.queries.responder import QueryResponder
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport
from protocol.quorum import QuorumPolicy

BLOCKS = 6
TARGETS = {204800: 2.0, 4194304: 1.25}


class Echo:
    """An answerer that computes nothing."""

    def prepare(self, progress: object) -> str:
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        return {"score": question.inputs["x"]}


def spec(name: str, role: Any, folder: str, join: tuple[str, ...] = (), expected: tuple[str, ...] = ()) -> NodeSpec:
    """A node of the benchmark."""
    return NodeSpec(name, role, "bench", address(folder, name), join=join, expected=expected, policy=QuorumPolicy())


def address(folder: str, name: str) -> str:
    """Where something binds: a free tcp port of this machine, or a socket file in the benchmark's folder."""
    return f"ipc://{folder}/{name}" if folder else "tcp://127.0.0.1:0"


def worker(name: str, folder: str, join: str, bare_in: str, pipe: Connection) -> None:
    """One answering process: the bare echo and the fednet client side by side."""
    torch.set_num_threads(1)
    asyncio.run(_worker(name, folder, join, bare_in, pipe))


async def _worker(name: str, folder: str, join: str, bare_in: str, pipe: Connection) -> None:
    context = zmq.asyncio.Context()
    sub, pub = context.socket(zmq.SUB), context.socket(zmq.PUB)
    sub.subscribe(b"queries/")
    sub.connect(bare_in)
    pub.bind(address(folder, f"bare-{name}"))
    pipe.send(pub.getsockopt_string(zmq.LAST_ENDPOINT))
    compute, node = ComputeThread(name), Node(spec(name, "client", folder, (join,)), ZmqTransport())
    query_responder, capability_publisher = QueryResponder(node, compute), CapabilityPublisher(node)
    node.add(query_responder)
    node.add(capability_publisher)
    async with node:
        query_responder.open(Echo(), ("score",))
        capability_publisher.show("{}")
        echoing = asyncio.create_task(_bare_echo(sub, pub))
        await asyncio.to_thread(pipe.recv)
        echoing.cancel()
    compute.close()
    context.destroy(linger=0)


async def _bare_echo(sub: zmq.asyncio.Socket, pub: zmq.asyncio.Socket) -> None:
    while True:
        frames = await sub.recv_multipart(copy=False)
        await pub.send_multipart([b"to/requester/", frames[1].buffer], copy=False)


def percentile(values: list[float], q: float) -> float:
    """The q-th percentile in milliseconds."""
    ordered = sorted(values)
    return 1e3 * ordered[min(len(ordered) - 1, int(q * len(ordered)))]


async def bare_steps(pub: Any, sub: Any, payload: memoryview, answerers: int, steps: int) -> list[float]:
    """Seconds of each bare step: publish once, receive once from each."""
    taken = []
    for _ in range(steps):
        begun = time.perf_counter()
        await pub.send_multipart([b"queries/", payload], copy=False)
        for _ in range(answerers):
            await sub.recv_multipart(copy=False)
        taken.append(time.perf_counter() - begun)
    return taken


async def bare_join(pub: Any, sub: Any, answerers: int) -> None:
    """Publishes until everybody has echoed once: PUB drops what nobody has subscribed to yet."""
    heard = 0
    while heard < answerers:
        heard = 0
        await pub.send_multipart([b"queries/", b"ping"])
        while heard < answerers and await sub.poll(200):
            await sub.recv_multipart()
            heard += 1
    while await sub.poll(200):
        await sub.recv_multipart()


def loop_steps(ask: Ask, x: Tensor, steps: int) -> list[float]:
    """Seconds of each step of a solver that only asks."""
    taken = []
    for step in range(steps):
        begun = time.perf_counter()
        ask(Question("score", {"x": x}, {"t": 1.0 - step / (steps + 1)}))
        taken.append(time.perf_counter() - begun)
    return taken


async def measure(answerers: int, sizes: list[int], memory_steps: int, transport: str) -> list[dict[str, Any]]:
    """Starts the processes once and measures every size."""
    processes = multiprocessing.get_context("forkserver")
    with tempfile.TemporaryDirectory(prefix="fednet-bench-") as temporary:
        folder = temporary if transport == "ipc" else ""
        names = [f"a{index}" for index in range(1, answerers + 1)]
        context = zmq.asyncio.Context()
        pub, sub = context.socket(zmq.PUB), context.socket(zmq.SUB)
        pub.bind(address(folder, "bare"))
        sub.subscribe(b"to/requester/")
        node = Node(spec("requester", "guest", folder, expected=tuple(names)), ZmqTransport())
        directory = PeerDirectory(node, tuple(names))
        query_client = QueryClient(node, directory, QuorumPolicy())
        node.add(directory)
        node.add(query_client)
        pipes, workers = [], []
        async with node:
            for name in names:
                here, there = processes.Pipe()
                args = (name, folder, node.address, pub.getsockopt_string(zmq.LAST_ENDPOINT), there)
                workers.append(processes.Process(target=worker, args=args, daemon=True))
                workers[-1].start()
                pipes.append(here)
                sub.connect(await asyncio.to_thread(here.recv))
            await directory.complete(120)
            await bare_join(pub, sub, answerers)
            solver, ask = ComputeThread("solver"), partial(query_client.ask_blocking, Bridge())
            rows = [await _size(size, answerers, (pub, sub), solver, ask) for size in sizes]
            if memory_steps:
                rows[0]["memory"] = await _memory(
                    solver, ask, [node_process.pid for node_process in workers], memory_steps
                )
            for pipe in pipes:
                pipe.send("stop")
        solver.close()
        context.destroy(linger=0)
        for process in workers:
            process.join(10)
    return rows


async def _size(size: int, answerers: int, bare: tuple[Any, Any], solver: ComputeThread, ask: Ask) -> dict[str, Any]:
    x = torch.randn(size // 4)
    payload = memoryview(x.numpy().tobytes())
    steps = {4096: 200, 204800: 100}.get(size, 25)
    local = local_ask({f"a{index}": Echo() for index in range(answerers)})
    kinds: dict[str, Callable[[], Awaitable[list[float]]]] = {
        "bare": lambda: bare_steps(*bare, payload, answerers, steps),
        "fednet": lambda: solver.run(lambda: loop_steps(ask, x, steps)),
        "local": lambda: solver.run(lambda: loop_steps(local, x, steps)),
    }
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for run in kinds.values():
        await run()
    for _ in range(BLOCKS):
        for kind, run in kinds.items():
            taken[kind] += await run()
    row: dict[str, Any] = {"answerers": answerers, "bytes": size, "steps": steps * BLOCKS}
    for kind, values in taken.items():
        row[kind] = {"median_ms": 1e3 * statistics.median(values), "p99_ms": percentile(values, 0.99)}
    row["ratio"] = row["fednet"]["median_ms"] / row["bare"]["median_ms"]
    return row


async def _memory(solver: ComputeThread, ask: Ask, pids: list[int | None], steps: int) -> dict[str, Any]:
    """Resident memory in MB of the requester and of each answerer after a tenth of the steps and after all of them."""
    processes = [psutil.Process(), *(psutil.Process(pid) for pid in pids)]
    x = torch.randn(1024)
    await solver.run(lambda: loop_steps(ask, x, steps // 10))
    before = [process.memory_info().rss / 1e6 for process in processes]
    await solver.run(lambda: loop_steps(ask, x, steps - steps // 10))
    after = [process.memory_info().rss / 1e6 for process in processes]
    return {"steps": steps, "before_mb": before, "after_mb": after}


def show(rows: list[dict[str, Any]]) -> None:
    """Prints the table."""
    table = Table(
        "answerers", "bytes", "bare zmq.asyncio ms (p99)", "fednet ms (p99)", "in process ms", "ratio", "target"
    )
    for row in rows:
        bare, fednet = row["bare"], row["fednet"]
        target = TARGETS.get(row["bytes"])
        table.add_row(
            str(row["answerers"]),
            f"{row['bytes']:,}",
            f"{bare['median_ms']:.2f} ({bare['p99_ms']:.2f})",
            f"{fednet['median_ms']:.2f} ({fednet['p99_ms']:.2f})",
            f"{row['local']['median_ms']:.3f}",
            f"{row['ratio']:.2f}",
            f"<= {target}" if target else "-",
        )
    Console().print(table)
    for row in rows:
        if "memory" in row:
            memory = row["memory"]
            growth = max(b - a for a, b in zip(memory["before_mb"], memory["after_mb"], strict=True))
            Console().print(f"memory over {memory['steps']:,} steps: largest growth of a node {growth:.1f} MB")


def main() -> None:
    """Measures and prints; `--json FILE` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answerers", type=int, nargs="+", default=[1, 4, 10])
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 204800, 4194304])
    parser.add_argument("--memory-steps", type=int, default=10_000, help="0 leaves the memory measurement out")
    parser.add_argument("--transport", choices=["tcp", "ipc"], default="tcp")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for answerers in arguments.answerers:
        memory = arguments.memory_steps if answerers == 4 else 0
        rows += asyncio.run(measure(answerers, arguments.sizes, memory, arguments.transport))
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
