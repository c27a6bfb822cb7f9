"""Hostile inputs: raw bytes at every port before any handshake, and mutated messages of a peer that has joined.

    python tests/soak/hostile.py [--inputs 1000000] [--raw 0.1] [--members 3] [--seed 0]

Meanwhile the guest here goes on asking. Nobody may crash, no answer may be wrong or missing, and no process may grow by
more than 50 MB. Half of the mutated messages bear the name of their sender, who is quarantined again and again; the
others bear made-up names, so that the codec sees them all. Inputs are counted where they arrive. Sooner or later one
that is not malformed ends its sender's membership, as a goodbye does: then another one joins.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import multiprocessing
import random
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch
from cluster import Cluster, cluster
from rich.console import Console

from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport
from protocol import codec
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.messages import Capabilities, Goodbye, Heartbeat, Hello, Message, QueryRequest, Welcome

BATCH = 256
"""Mutated messages on their way: fewer than a queue holds."""
TOPICS = ("presence/", "heartbeat/", "to/guest/", "queries/", "rounds/", "to/a1/")
HERE = 3
"""How many of them the guest hears, so at least this share of all: only what arrives there is counted."""
WARM = 6000
"""Questions after which the buffers for repair, 64 MB each, are full: from then on memory must not grow."""
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
MOST_MB = 50.0
QUIET = 10
"""Batches of which nothing arrives, after which a sender has left."""


def samples(node: Node) -> list[list[Buffer]]:
    """Well-formed messages to begin with, on topics that the guest hears."""
    me = node.presence.me
    query = QueryRequest(
        query=1, oldest_open=1, task="double", inputs={"x": torch.rand(64)}, options={"t": 0.5}, ttl=5.0
    )
    said: list[tuple[str, Message]] = [
        ("presence/", Goodbye(reason="x" * 40)),
        ("heartbeat/", Heartbeat(tick=7, latest={"progress/": 3})),
        ("to/guest/", Hello(peer=me, receiver_incarnation=1, members=(me,), latest={"presence/": 1})),
        ("to/guest/", Welcome(receiver_incarnation=5)),
        ("presence/", Capabilities(text="{}", ready=True)),
        ("to/guest/", query),
    ]
    return [
        codec.encode(Envelope(topic, "soak", me.name, me.incarnation, int(each.numbered), each)) for topic, each in said
    ]


def mutated(frames: Sequence[Buffer], chance: random.Random, turn: int) -> list[Buffer]:
    """A message with something wrong: bytes changed, cut or added, frames missing or twice, another sender's name."""
    broken = [bytearray(frame) for frame in frames]
    if chance.random() < 0.5:
        broken[0] = bytearray(chance.choice(TOPICS).encode())
    if turn % 2:
        broken[1] = broken[1].replace(b"mallory", f"m{chance.randrange(10**6):06d}".encode())
    for _ in range(chance.randint(1, 4)):
        frame = broken[chance.randrange(1, len(broken))]
        place = chance.randrange(len(frame) or 1)
        match chance.randrange(5):
            case 0 if frame:
                frame[place] = chance.randrange(256)
            case 1:
                del frame[place:]
            case 2:
                frame[place:place] = chance.randbytes(chance.randint(1, 64))
            case 3:
                broken.append(bytearray(chance.randbytes(chance.randint(0, 200))))
            case _ if len(broken) > 2:
                broken.pop()
    return [bytes(frame) for frame in broken]


def mallory(spec: NodeSpec, seed: int, pipe: Connection) -> None:
    """A peer that joins and then speaks nonsense, as many messages at a time as it is told."""
    torch.set_num_threads(1)
    logging.disable()
    asyncio.run(_speak(spec, random.Random(seed), pipe))  # noqa: S311 - replayable trouble, not secrets


async def _speak(spec: NodeSpec, chance: random.Random, pipe: Connection) -> None:
    bus, turns = ZmqTransport(), itertools.count()
    async with Node(spec, bus) as node:
        good = samples(node)
        while count := await asyncio.to_thread(pipe.recv):
            for _ in range(count):
                bus.publish(mutated(chance.choice(good), chance, next(turns)))
            pipe.send(count)


def rattle(addresses: Sequence[str], count: int, seed: int, done: list[int]) -> None:
    """Connects to ports and says bytes that are no greeting, or half of one."""
    chance = random.Random(seed)  # noqa: S311 - replayable trouble, not secrets
    endpoints = [
        (host, int(port) + more) for host, port in (a[6:].rsplit(":", 1) for a in addresses) for more in (0, 1)
    ]
    for _ in range(count):
        said = bytearray(GREETING if chance.random() < 0.5 else chance.randbytes(chance.randint(1, 300)))
        if chance.random() < 0.5:
            said[chance.randrange(len(said))] ^= chance.randrange(1, 256)
        endpoint = socket.create_connection(chance.choice(endpoints), timeout=10)
        with endpoint, suppress(ConnectionError):  # who connects too often is hung up on
            endpoint.sendall(said + chance.randbytes(chance.randint(0, 100)))
        done[0] += 1


async def legitimate(members: Cluster, names: frozenset[str], answered: list[int]) -> None:
    """Goes on asking; everybody has to answer rightly."""
    while True:
        replies = await members.ask()
        if replies.by_node.keys() != names:
            raise SystemExit(f"only {sorted(replies.by_node)} answered")
        answered[0] += 1


async def speak(members: Cluster, inputs: int, seed: int) -> tuple[int, dict[str, int], list[str]]:
    """Lets one after another speak until so many of their messages have arrived here.

    Returns:
        How many did, what became of them, and what each sender was here in the end.
    """
    heard, ends, read = [0], list[str](), members.node._inbound_filter.read

    def noted(frames: Sequence[Buffer], now: float, **more: Any) -> Any:
        found = read(frames, now, **more)
        heard[0] += found is None
        return found

    members.node._inbound_filter.read = noted  # type: ignore[method-assign]
    while heard[0] < inputs:
        name = f"mallory{len(ends)}"
        await attack(members, name, inputs, seed + len(ends), heard)
        ends.append(str(getattr(members.node.presence.state(name), "value", "unknown")))
    return heard[0], dict(members.node.counts), ends


async def attack(members: Cluster, name: str, inputs: int, seed: int, heard: list[int]) -> None:
    """Lets one sender speak until so many inputs have arrived in all, or none of its does any more."""
    here, there = multiprocessing.Pipe()
    spec = NodeSpec(name, "guest", "soak", "tcp://127.0.0.1:0", join=(members.node.address,))
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=mallory, args=(spec, seed, there), daemon=True)
    await asyncio.to_thread(process.start)
    while name not in members.node.presence.linked():
        await asyncio.sleep(0.05)
    quiet = 0
    while heard[0] < inputs and quiet < QUIET:
        before, since = heard[0], time.monotonic()
        here.send(BATCH)
        await asyncio.to_thread(here.recv)
        while heard[0] < before + BATCH * HERE / len(TOPICS) * 0.8 and time.monotonic() < since + 0.5:
            await asyncio.sleep(0.002)
        quiet = quiet + 1 if heard[0] == before else 0
    process.kill()


async def run(inputs: int, raw: float, count: int, seed: int) -> bool:
    """Everything at once; whether all is well."""
    async with cluster(count) as members:
        names, answered, rattled = frozenset(members.specs), [0], [0]
        asking = asyncio.create_task(legitimate(members, names, answered))
        while answered[0] < WARM and not asking.done():
            await asyncio.sleep(0.1)
        processes = {"guest": psutil.Process()}
        processes |= {name: psutil.Process(process.pid) for name, process in members.processes.items()}
        before = {name: process.memory_info().rss for name, process in processes.items()}
        addresses = [spec.listen for spec in members.specs.values()] + [members.node.address]
        thread = threading.Thread(target=rattle, args=(addresses, int(raw * inputs), seed, rattled), daemon=True)
        began = time.monotonic()
        thread.start()
        heard, counts, ends = await speak(members, inputs - int(raw * inputs), seed)
        await asyncio.to_thread(thread.join)
        await asyncio.sleep(1)
        seconds = time.monotonic() - began
        grown = {name: (process.memory_info().rss - before[name]) / 2**20 for name, process in processes.items()}
        if asking.done():
            await asking
        asking.cancel()
    show = Console().print
    show(f"{rattled[0]} raw inputs and {heard} mutated messages in {seconds:.0f} s", highlight=False)
    show(f"{len(ends)} senders, one after another; here each was in the end: {', '.join(ends)}", highlight=False)
    show(
        f"of the messages: {', '.join(f'{kind} {number}' for kind, number in sorted(counts.items()))}", highlight=False
    )
    show(f"{answered[0]} questions were answered by everybody meanwhile, none wrongly", highlight=False)
    show("memory grew by " + ", ".join(f"{name} {mb:.1f} MB" for name, mb in grown.items()), highlight=False)
    return max(grown.values()) <= MOST_MB


def main() -> None:
    """Attacks, prints, and ends with 1 where memory has grown too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--raw", type=float, default=0.1, help="the part of them that is raw bytes")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable()
    fine = asyncio.run(run(arguments.inputs, arguments.raw, arguments.members, arguments.seed))
    raise SystemExit(not fine)


if __name__ == "__main__":
    main()
