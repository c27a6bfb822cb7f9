"""What strangers and trusted peers can make a node pay: memory, descriptors, seconds, and other peers' connections.

    python tests/soak/costs.py [idle resend subscriptions joins addresses reading]

Each attack runs against real nodes with keys in a process of its own, from a process that keeps no rules; printed is
what it cost the victim. `idle` has no key, and its victim few descriptors; all others hold the key of a
monitor, `x`. Ends with 1 where a target of README.md is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import torch
import zmq
from rich.console import Console

from fednet.files import write_whole
from nodes.node import Node
from nodes.spec import NodeSpec, Role
from nodes.transport import zmq as transport
from nodes.transport.zmq import ZmqTransport
from protocol.messages import QueryAnswer, QueryRequest
from protocol.messages.retransmission import RetransmitRequest
from protocol.security.authentication import MessageAuthenticator
from protocol.security.group_encryption import KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import JoinRequest

NAMES = "abcx"
PRIVATE = {name: PrivateKeys.make(name, "monitor" if name == "x" else "client") for name in NAMES}
PUBLIC = [keys.public for keys in PRIVATE.values()]
ANYWHERE = "tcp://127.0.0.1:0"
LINKED = 20.0
SOFT, HARD = 200, 512
"""Descriptors of a victim of connections that say nothing: at first, and at most."""

IDLE = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (3000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
host, port = sys.stdin.readline().strip().removeprefix("tcp://").rsplit(":", 1)
open_, end = [], time.time() + float(sys.argv[2])
while time.time() < end:
    while len(open_) < int(sys.argv[1]):
        try:
            open_.append(socket.create_connection((host, int(port)), 0.2))
        except OSError:
            break
    time.sleep(0.5)
"""
"""Connects and says nothing: connections, seconds; the address comes later."""

SUBSCRIBER = """
import json, sys, time, zmq
told = json.loads(sys.argv[1])
with zmq.Context() as context, context.socket(zmq.SUB) as ear:
    ear.linger = ear.sndhwm = ear.rcvhwm = 0
    ear.curve_secretkey, ear.curve_publickey = bytes.fromhex(told["secret"]), bytes.fromhex(told["public"])
    ear.curve_serverkey = bytes.fromhex(told["server"])
    ear.connect(told["address"])
    time.sleep(2)
    for number, topic in enumerate(open(told["topics"]), 1):
        ear.subscribe(topic.strip())
        if number % 50 == 0:
            time.sleep(told["pause"])
    time.sleep(told["hold"])
"""
"""Subscribes to all topics of a file."""


@asynccontextmanager
async def member(name: str, *join: Node) -> AsyncIterator[Node]:
    """A node with keys that joins through another."""
    keys = Keyring.of(PRIVATE[name], PUBLIC)
    role: Role = "monitor" if name == "x" else "client"
    with TemporaryDirectory() as folder:
        endpoints = tuple(f"{node.name}@{node.address}" for node in join)
        spec = NodeSpec(name, role, "costs", ANYWHERE, join=endpoints, keys=keys, folder=Path(folder))
        async with Node(spec, ZmqTransport(keys=keys)) as node:
            for other in join:
                await until(partial(linked, node, other))
            yield node


def linked(one: Node, other: Node) -> bool:
    """Whether both are linked with each other."""
    return one.name in other.presence.linked() and other.name in one.presence.linked()


async def until(condition: Callable[[], bool], patience: float = LINKED) -> None:
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.05)


def descriptors() -> int:
    """Open descriptors of this process; OSError if there is none left to count them with."""
    return len(list(Path("/proc/self/fd").iterdir()))


def rss() -> float:
    """Megabytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


class Watch:
    """The longest stall of the event loop and the most memory, from `__enter__` to `__exit__`."""

    def __enter__(self) -> Watch:
        self.stall, self.start, self.most = 0.0, rss(), 0.0
        self._task = asyncio.ensure_future(self._look())
        return self

    def __exit__(self, *_error: object) -> None:
        self._task.cancel()

    @property
    def grown(self) -> float:
        return round(self.most - self.start)

    async def _look(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.02)
            self.stall = max(self.stall, time.monotonic() - before - 0.02)
            self.most = max(self.most, rss())


def question(number: int, x: torch.Tensor) -> QueryRequest:
    return QueryRequest(query=number, oldest_open=0, task="score", inputs={"x": x}, options={}, ttl=60.0)


def join_requests(*addresses: str) -> list[str]:
    """Join requests of x of ever later incarnations, which x has signed, each from one of these addresses."""
    x = MessageAuthenticator(Keyring.of(PRIVATE["x"], PUBLIC), 1)
    unsigned = [JoinRequest("x", 10**6 + number, "costs", address) for number, address in enumerate(addresses)]
    return [replace(each, signature=x.attest(each.statement)).topic for each in unsigned]


def told(victim: Node, subscriptions: Iterable[str], pause: float, hold: float = 3.0) -> str:
    """What the subscriber is told: all of these, 50 between two pauses of so many seconds."""
    keys = PRIVATE["x"]
    server = PRIVATE[victim.name].public.curve
    file = Path(mkdtemp()) / "topics"
    file.write_text("\n".join(subscriptions))
    return json.dumps({
        "secret": keys.curve, "public": keys.public.curve, "server": server, "address": victim.address,
        "topics": str(file), "pause": pause, "hold": hold,
    })  # fmt: skip


async def run(program: str, *arguments: object) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, *map(str, arguments))
    await process.wait()


async def idle() -> dict[str, object]:
    """600 connections without a key that say nothing, for 20 s, to a node that has few descriptors."""
    attack = await asyncio.create_subprocess_exec(
        sys.executable, "-c", IDLE, "600", "20", stdin=asyncio.subprocess.PIPE
    )
    assert attack.stdin is not None
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD))
    folder = mkdtemp()
    async with member("a") as a, member("b", a):
        attack.stdin.write(f"{a.address}\n".encode())
        ended = asyncio.ensure_future(attack.wait())
        failed, most, cpu = 0, 0, time.process_time()
        while not ended.done():
            await asyncio.sleep(0.5)
            try:
                write_whole(Path(folder) / "vote", b"for", durable=True)
            except OSError:
                failed += 1
            with contextlib.suppress(OSError):
                most = max(most, descriptors())
        busy = (time.process_time() - cpu) / 20
        still = "b" in a.presence.linked()
        await asyncio.sleep(3)
        found = {"descriptors": most, "of 40 writes failed": failed, "cpu": round(busy, 2), "linked": still}
        return {**found, "target": failed == 0 and still}


async def resend() -> dict[str, object]:
    """24 requests of 200 bytes for 30 MB that are kept, by somebody who reads nothing."""
    async with member("a") as a:
        transport.HIGH_WATER = 4
        async with member("x", a) as x:
            for query in range(15):
                a.publish("queries/", question(query, torch.rand(1 << 19)))
                await asyncio.sleep(0.05)
            await asyncio.sleep(1)
            assert isinstance(x._bus, ZmqTransport)
            asyncio.get_running_loop().remove_reader(int(x._bus._in.getsockopt(zmq.FD)))
            request = RetransmitRequest(topic="queries/", incarnation=a.presence.me.incarnation, first=1, last=20)
            with Watch() as watch:
                for _ in range(24):
                    x.tell("a", request)
                    await asyncio.sleep(0.15)
                await asyncio.sleep(1)
        return {
            "MB": watch.grown,
            "stall": round(watch.stall, 2),
            "counts": dict(a.counts),
            "target": watch.grown < 100,
        }


async def subscriptions() -> dict[str, object]:
    """60,000 subscriptions of 100 bytes."""
    words = [sha256(str(number).encode()).hexdigest() for number in range(60_000)]
    topics = ["/".join((word[:32], word[32:], word[16:48], "")) for word in words]
    async with member("a") as a, member("b", a):
        attack = told(a, topics, pause=0.003, hold=10.0)
        with Watch() as watch:
            await run(SUBSCRIBER, attack)
        linked = "b" in a.presence.linked()
        return {"MB": watch.grown, "linked": linked, "counts": dict(a.counts), "target": watch.grown < 50 and linked}


async def joins() -> dict[str, object]:
    """3,000 join requests in one's own name, each of a later incarnation."""
    requests = join_requests(*["tcp://127.0.0.1:9"] * 3000)  # signed while nobody lives here who could stand still
    async with member("a") as a, member("b", a):
        assert isinstance(a._security, KeyedSecurity)
        cipher = a._security._group_cipher
        before = cipher._epoch
        attack = told(a, requests, pause=0.01)
        with Watch() as watch:
            await run(SUBSCRIBER, attack)
        epochs, linked = cipher._epoch - before, "b" in a.presence.linked()
        found = {"epochs": epochs, "stall": round(watch.stall, 2), "linked": linked, "counts": dict(a.counts)}
        return {**found, "target": epochs < 100 and watch.stall < 0.5 and linked}


async def addresses() -> dict[str, object]:
    """Join requests of x at a and b that name c's two addresses: do a and b still hear c?"""
    async with member("a") as a, member("b", a) as b, member("c", a, b) as c:
        await until(lambda: all(len(node.presence.linked()) == 2 for node in (a, b, c)))
        with sockets() as context:
            for victim in (a, b):
                ear = context.socket(zmq.SUB)
                ear.curve_secretkey = bytes.fromhex(PRIVATE["x"].curve)
                ear.curve_publickey = bytes.fromhex(PRIVATE["x"].public.curve)
                ear.curve_serverkey = bytes.fromhex(PRIVATE[victim.name].public.curve)
                ear.connect(victim.address)
                for request in join_requests(c.presence.me.address, c.presence.me.heartbeat_address):
                    ear.subscribe(request)
                    await asyncio.sleep(0.2)
            await asyncio.sleep(10)
            cut = [node.name for node in (a, b) if "c" not in node.presence.linked()]
        await asyncio.sleep(8)
        after = [node.name for node in (a, b) if "c" not in node.presence.linked()]
        return {"cut off from c": cut, "after x has gone": after, "target": not cut and not after}


@contextlib.contextmanager
def sockets() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(linger=0)


async def reading() -> dict[str, object]:
    """A monitor asks for what was said to b alone, and for what was said to all before it came."""
    async with member("a") as a, member("b", a):
        a.tell("b", QueryAnswer(query=7, outputs={"diagnosis": torch.rand(3)}, seconds=1.0))
        a.publish("queries/", question(8, torch.rand(3)))
        await asyncio.sleep(0.3)
        async with member("x", a) as x:
            read, got = x._inbound_filter.read, list[str]()

            def spy(frames: object, now: float, **how: object) -> object:
                heard = read(frames, now, **how)  # type: ignore[arg-type]
                if how.get("again"):
                    got.append(bytes(frames[0]).decode())  # type: ignore[index]
                return heard

            x._inbound_filter.read = spy  # type: ignore[assignment,method-assign]
            for topic in ("to/b/", "queries/"):
                x.tell("a", RetransmitRequest(topic=topic, incarnation=a.presence.me.incarnation, first=1, last=60))
            await asyncio.sleep(1)
        return {"read": sorted(got), "target": not got}


ATTACKS: dict[str, Callable[[], Awaitable[dict[str, object]]]] = {
    each.__name__: each for each in (idle, resend, subscriptions, joins, addresses, reading)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attacks", nargs="*", help=", ".join(ATTACKS))
    chosen = parser.parse_args().attacks or list(ATTACKS)
    if len(chosen) > 1:
        return max(subprocess.run([sys.executable, __file__, name], check=False).returncode for name in chosen)
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    found = asyncio.run(asyncio.wait_for(ATTACKS[chosen[0]](), 110))
    Console(width=160).print(chosen[0], json.dumps(found), soft_wrap=True)
    return 0 if found["target"] else 1


if __name__ == "__main__":
    sys.exit(main())
