"""What a round costs: `make bench`.

Every worker process holds both ends that are compared: a bare `zmq.asyncio` full mesh (everybody publishes its bytes
and receives everybody else's, nothing is checked, numbered, averaged or agreed on) and a fednet member whose training
is one addition. Blocks of bare and of fednet rounds alternate in one run, so that a noisy machine disturbs both
alike. A fednet round lasts from the commit before to its own, heard by the guest that ordered it: open, contribute,
fetch, check, average in float64, digest, vote, commit and adopt. Only the ratios mean anything on another machine.

What a member holds in memory at most in a sharded round, beyond what it held before, is sampled in a block of its own,
which is not timed: its own pages (`RssAnon`), not those of files, which the system may drop; with `--disk` states above
256 MiB lie in files. A bare mesh holds everybody's bytes: `--alone` leaves it out, for states that only streams have
room for.

    python tests/benchmarks/bench_round.py [--peers 4] [--megabytes 1 16 64] [--rounds 10] [--blocks 3]
    python tests/benchmarks/bench_round.py --megabytes 4096 --rounds 1 --blocks 1 --disk --alone
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import zmq
import zmq.asyncio
from rich.console import Console
from rich.table import Table

from fednet.api import ModelState, Progress, RoundPlan, RoundTask, Update
from fednet.federated.averaging import weighted_mean
from fednet.federated.config import Federation
from nodes.blob_store import BlobStore
from nodes.compute import ComputeThread
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.rounds.client import RoundsClient
from nodes.rounds.service import RoundService
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport

TARGETS = {16: 2.0}


class Idle:
    """A participant that trains nothing: its contribution is the base and a number of its own.

    Every value changes: a shard that is the same at two peers has the same digest, and would not travel at all.
    """

    def __init__(self, place: int) -> None:
        self.place = place

    def initial_state(self, model: str) -> ModelState:
        count = int(model.removeprefix("mb")) * (1 << 20) // 4
        return {"w": torch.randn(count, generator=torch.Generator().manual_seed(0))}

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        base["w"].add_(self.place / 100)
        return Update(base, 1.0)

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Nothing to do."""


def spec(name: str, role: Any, join: tuple[str, ...], names: tuple[str, ...]) -> NodeSpec:
    """A node of the benchmark."""
    return NodeSpec(name, role, "bench", "tcp://127.0.0.1:0", join=join, expected=names)


def worker(name: str, names: tuple[str, ...], join: str, folder: str, pipe: Connection) -> None:
    """One peer: the bare mesh and the fednet member side by side."""
    torch.set_num_threads(1)
    asyncio.run(_worker(name, names, join, folder, pipe))


class MemoryWatch:
    """Samples the pages of this process that belong to no file, on a thread, from now on until it is asked."""

    def __init__(self) -> None:
        self._before = self._most = own_pages()
        self._over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            self._most = max(self._most, own_pages())

    def grown(self) -> int:
        """By how many bytes they have been more at most."""
        self._over.set()
        return max(self._most, own_pages()) - self._before


def own_pages() -> int:
    """Bytes of this process in memory that belong to no file."""
    text = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith("RssAnon")))


async def _worker(name: str, names: tuple[str, ...], join: str, folder: str, pipe: Connection) -> None:
    context = zmq.asyncio.Context()
    sub, pub = context.socket(zmq.SUB), context.socket(zmq.XPUB)
    sub.subscribe(b"")
    pub.setsockopt(zmq.XPUB_VERBOSE, 1)  # tells of every subscriber, not of every subscription
    pub.bind("tcp://127.0.0.1:0")
    pipe.send(pub.getsockopt_string(zmq.LAST_ENDPOINT))
    for address in await asyncio.to_thread(pipe.recv):
        sub.connect(address)
    for _ in range(len(names) - 1):
        await pub.recv()  # everybody hears us
    node = Node(spec(name, "client", (join,), names), ZmqTransport())
    compute, reducer, blobs, capability_publisher = (
        ComputeThread(name),
        ComputeThread(f"{name}-reducer"),
        BlobStore(node),
        CapabilityPublisher(node),
    )
    round_service = RoundService(node, compute, reducer, blobs, Path(folder) / name if folder else None)
    for capability in (blobs, capability_publisher, round_service):
        node.add(capability)
    async with node:
        await round_service.open(Idle(names.index(name) + 1))
        capability_publisher.show("{}")
        await _obey(pipe, pub, sub, len(names) - 1)
    compute.close()
    reducer.close()
    context.destroy(linger=0)


async def _obey(pipe: Connection, pub: Any, sub: Any, others: int) -> None:
    """Does what the benchmark says: (megabytes, rounds, whether to average), "watch", "grown", or "stop"."""
    watch: MemoryWatch | None = None
    while (said := await asyncio.to_thread(pipe.recv)) != "stop":
        if said == "watch":
            watch = MemoryWatch()
            continue
        if said == "grown" and watch is not None:
            pipe.send(watch.grown())
            continue
        megabytes, rounds, mean = said
        payload = torch.zeros(megabytes << 18)
        for _ in range(rounds):
            await pub.send_multipart([b"", payload.numpy().data.cast("B")], copy=False)
            got = [await sub.recv_multipart(copy=False) for _ in range(others)]
            if mean:
                states = {
                    str(i): {"w": torch.frombuffer(each[1].buffer, dtype=torch.float32)} for i, each in enumerate(got)
                }
                weighted_mean({**states, "own": {"w": payload}}, dict.fromkeys([*states, "own"], 1.0))
            pipe.send("done")
            await asyncio.to_thread(pipe.recv)


async def bare(pipes: list[Connection], megabytes: int, rounds: int, *, mean: bool = False) -> list[float]:
    """Seconds of each bare round, from the word to begin until the last peer has everything."""
    taken = []
    begun = time.perf_counter()
    for pipe in pipes:
        pipe.send((megabytes, rounds, mean))
    for _ in range(rounds):
        for pipe in pipes:
            await asyncio.to_thread(pipe.recv)
        taken.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        for pipe in pipes:
            pipe.send("next")
    return taken


class Stamp:
    """A watch that notes when each round is over."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def report(self, phase: str, done: int, total: int, **values: float) -> None:
        self.times.append(time.perf_counter())


async def fednet(
    rounds_client: RoundsClient, megabytes: int, rounds: int, federation: Mapping[str, Any], key: str
) -> list[float]:
    """Seconds of each fednet round but the first of a plan, which has nothing before it to begin from."""
    stamp = Stamp()
    how = Federation.model_validate(federation)
    plan = RoundPlan(key, f"mb{megabytes}", "nothing", rounds + 1, how)
    closed = await rounds_client.run_rounds(plan, stamp)
    everybody = max(len(record.weights) for record in closed)  # the first round may find somebody not linked yet
    if any(len(record.weights) != everybody or record.late for record in closed[1:]):
        raise SystemExit(f"not everybody took part: {closed}")
    return [after - before for before, after in pairwise(stamp.times)]


async def measure(
    peers: int, sizes: list[int], rounds: int, blocks: int, *, disk: bool, alone: bool
) -> list[dict[str, Any]]:
    """Starts the processes once and measures every size."""
    processes = multiprocessing.get_context("forkserver")
    names = tuple(f"a{index}" for index in range(1, peers + 1))
    with tempfile.TemporaryDirectory(prefix="fednet-bench-") as folder:
        node = Node(spec("requester", "guest", (), names), ZmqTransport())
        directory, blobs = PeerDirectory(node, names), BlobStore(node)
        rounds_client = RoundsClient(node, directory, blobs)
        for capability in (directory, blobs, rounds_client):
            node.add(capability)
        pipes, workers, addresses = [], [], []
        async with node:
            for name in names:
                here, there = processes.Pipe()
                args = (name, names, node.address, folder if disk else "", there)
                workers.append(processes.Process(target=worker, args=args, daemon=True))
                workers[-1].start()
                pipes.append(here)
                addresses.append(await asyncio.to_thread(here.recv))
            for place, pipe in enumerate(pipes):
                pipe.send([address for other, address in enumerate(addresses) if other != place])
            await directory.complete(120)
            rows = [await _size(size, rounds_client, pipes, rounds, blocks, alone=alone) for size in sizes]
            for pipe in pipes:
                pipe.send("stop")
        for process in workers:
            process.join(10)
    return rows


async def _size(
    size: int, rounds_client: RoundsClient, pipes: list[Connection], rounds: int, blocks: int, *, alone: bool
) -> dict[str, Any]:
    taken: dict[str, list[float]] = defaultdict(list)
    if not alone:
        await _others(size, rounds_client, pipes, rounds, -1)  # warms up
    grown = await _grown(size, rounds_client, pipes, rounds)
    for block in range(blocks):
        if not alone:
            for kind, values in (await _others(size, rounds_client, pipes, rounds, block)).items():
                taken[kind] += values
        taken["sharded"] += await _sharded(size, rounds_client, rounds, block)
    medians = {kind: statistics.median(each) for kind, each in taken.items()}
    return {"megabytes": size, "peers": len(pipes), "memory": grown / (size << 20), **medians}


async def _sharded(size: int, rounds_client: RoundsClient, rounds: int, block: int) -> list[float]:
    return await fednet(rounds_client, size, rounds, {"transport": "sharded"}, f"sharded {size} {block}")


async def _grown(size: int, rounds_client: RoundsClient, pipes: list[Connection], rounds: int) -> int:
    """By how many bytes of memory a worker has grown at most in sharded rounds."""
    for pipe in pipes:
        pipe.send("watch")
    await _sharded(size, rounds_client, rounds, -1)
    for pipe in pipes:
        pipe.send("grown")
    return max([await asyncio.to_thread(pipe.recv) for pipe in pipes])


async def _others(
    size: int, rounds_client: RoundsClient, pipes: list[Connection], rounds: int, block: int
) -> dict[str, list[float]]:
    """What a sharded round is compared with."""
    return {
        "bare": await bare(pipes, size, rounds),
        "bare + mean": await bare(pipes, size, rounds, mean=True),
        "mesh": await fednet(rounds_client, size, rounds, {"transport": "mesh"}, f"mesh {size} {block}"),
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Prints the table."""
    table = Table(
        "peers", "MB", "bare ms", "bare + mean ms", "mesh ms", "ratio", "target", "sharded ms", "ratio", "models held"
    )
    for row in rows:
        target, bare = TARGETS.get(row["megabytes"]), row.get("bare")
        table.add_row(
            str(row["peers"]),
            str(row["megabytes"]),
            _milliseconds(bare),
            _milliseconds(row.get("bare + mean")),
            _milliseconds(row.get("mesh")),
            f"{row['mesh'] / bare:.2f}" if bare else "-",
            f"<= {target}" if target else "-",
            _milliseconds(row["sharded"]),
            f"{row['sharded'] / bare:.2f}" if bare else "-",
            f"{row['memory']:.1f}",
        )
    Console().print(table)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.1f}"


def main() -> None:
    """Measures and prints; `--json FILE` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--disk", action="store_true", help="also write every closed round to disk, as clients do")
    parser.add_argument("--alone", action="store_true", help="sharded rounds only")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = asyncio.run(
        measure(
            arguments.peers, arguments.megabytes, arguments.rounds, arguments.blocks,
            disk=arguments.disk, alone=arguments.alone,
        )
    )  # fmt: skip
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
