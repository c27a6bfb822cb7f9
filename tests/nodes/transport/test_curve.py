"""Buses with keys, over real sockets: who is let in, what they hear, and what somebody on the wire can see and do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport
from protocol.messages import PeerInfo, QueryAnswer
from protocol.security.budget import Cost
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import heartbeat_address

PATIENCE = 20.0
KEYS = {name: PrivateKeys.make(name) for name in ("anna", "ben", "eve", "stranger")}
TRUSTED = [keys.public for name, keys in KEYS.items() if name != "stranger"]


def ring(name: str) -> Keyring:
    return Keyring.of(KEYS[name], TRUSTED)


class Ear:
    """Remembers what a bus hears, notices and turns away, and wakes who waits for it."""

    def __init__(self) -> None:
        self.heard: list[list[bytes]] = []
        self.noticed: list[tuple[bytes, bool]] = []
        self.turned_away: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def received(self, frames: Sequence[Any], origin: str = "") -> None:
        self.heard.append([bytes(frame) for frame in frames])
        self._changed.set()

    def charge(self, payer: str, cost: Cost, amount: float = 1.0) -> bool:
        return True

    def subscribed(self, topic: bytes, present: bool, origin: str = "") -> None:
        self.noticed.append((topic, present))
        self._changed.set()

    def refused(self, kind: str, why: str) -> None:
        self.turned_away.append((kind, why))
        self._changed.set()

    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.turned_away}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Wire:
    """Opens buses and closes them at the end."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack

    async def open(self, name: str, listen: str = "tcp://127.0.0.1:0") -> tuple[ZmqTransport, Ear, str]:
        bus, ear = ZmqTransport(keys=ring(name) if name else None), Ear()
        address, _ = await bus.open(listen, ear)
        self.stack.push_async_callback(bus.close)
        return bus, ear, address


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with AsyncExitStack() as stack:
        yield Wire(stack)


class TestDoor:
    @pytest.mark.parametrize("transport", ["tcp", "ipc"])
    async def test_who_is_known_is_let_in_and_hears(self, wire: Wire, transport: str, tmp_path: Path) -> None:
        anna, noticed, address = await wire.open("anna", *([f"ipc://{tmp_path}/a"] if transport == "ipc" else []))
        ben, ear, _ = await wire.open("ben")
        ben.subscribe(["news/", "to/ben/"])
        ben.connect(address, "anna")
        await noticed.until(lambda: (b"to/ben/", True) in noticed.noticed)
        anna.publish([b"news/", b"1"])
        anna.publish([b"to/ben/", b"2"])
        await ear.until(lambda: len(ear.heard) == 2)
        assert ear.heard == [[b"news/", b"1"], [b"to/ben/", b"2"]]
        assert not noticed.turned_away + ear.turned_away

    async def test_nobody_hears_what_is_said_to_another(self, wire: Wire) -> None:
        anna, noticed, address = await wire.open("anna")
        ben, good, _ = await wire.open("ben")
        eve, bad, _ = await wire.open("eve")
        for bus, topics in (
            (ben, ["to/ben/"]),
            (eve, ["", "to/", "to/ben/", "to/b", "join/ben/1/tcp://h:1/", "end/"]),
        ):
            bus.subscribe(topics)
            bus.connect(address, "anna")
        await noticed.until(lambda: {(b"to/ben/", True), (b"end/", True)} <= set(noticed.noticed))
        assert noticed.noticed == [pair for pair in noticed.noticed if pair[0] in {b"to/ben/", b"end/"}]
        assert Counter(noticed.turned_away)["eavesdropping", "eve wants to hear b'to/ben/', which is not for it"] == 1
        assert len(noticed.turned_away) == 5
        anna.publish([b"to/ben/", b"private"])
        anna.publish([b"end/", b""])
        await asyncio.gather(good.until(lambda: bool(good.heard)), bad.until(lambda: bool(bad.heard)))
        assert good.heard == [[b"to/ben/", b"private"]]
        assert bad.heard == [[b"end/", b""]]

    async def test_who_was_denied_a_knock_does_not_end_it_by_leaving(self, wire: Wire) -> None:
        _, noticed, address = await wire.open("anna")
        ben, _, _ = await wire.open("ben")
        ben.subscribe(["join/ben/1/tcp://h:1/"])
        ben.connect(address, "anna")
        await noticed.until(lambda: bool(noticed.noticed))
        eve, _, _ = await wire.open("eve")
        eve.subscribe(["join/ben/1/tcp://h:1/", "end/"])
        eve.connect(address, "anna")
        await noticed.until(lambda: (b"end/", True) in noticed.noticed)
        eve.disconnect(address, "anna")
        await noticed.until(lambda: (b"end/", False) in noticed.noticed)
        assert (b"join/ben/1/tcp://h:1/", False) not in noticed.noticed
        ben.disconnect(address, "anna")
        await noticed.until(lambda: (b"join/ben/1/tcp://h:1/", False) in noticed.noticed)

    async def test_an_unknown_key_is_refused_counted_and_named(self, wire: Wire) -> None:
        _, noticed, address = await wire.open("anna")
        stranger, ear, _ = await wire.open("stranger")
        stranger.subscribe(["news/"])
        stranger.connect(address, "anna")
        await noticed.until(lambda: "unknown key" in noticed.kinds())
        assert KEYS["stranger"].public.curve in noticed.turned_away[0][1]
        await ear.until(lambda: "not let in" in ear.kinds())
        assert KEYS["stranger"].public.fingerprint in dict(ear.turned_away)["not let in"]
        assert not noticed.noticed

    async def test_who_has_no_keys_is_not_understood(self, wire: Wire) -> None:
        _, noticed, address = await wire.open("anna")
        plain, _, _ = await wire.open("")
        plain.subscribe(["news/"])
        plain.connect(address)
        await noticed.until(lambda: "handshake" in noticed.kinds())
        assert not noticed.noticed

    async def test_the_heartbeats_are_behind_the_same_door(self, wire: Wire) -> None:
        _, noticed, address = await wire.open("anna")
        stranger, _, _ = await wire.open("stranger")
        stranger.connect(heartbeat_address(address), "anna")
        await noticed.until(lambda: "unknown key" in noticed.kinds())

    async def test_bytes_that_are_no_handshake_harm_nobody(self, wire: Wire) -> None:
        anna, noticed, address = await wire.open("anna")
        host, port = address.removeprefix("tcp://").split(":")
        for junk in (b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(200)):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(junk)
            await writer.drain()
            writer.close()
        ben, ear, _ = await wire.open("ben")
        ben.subscribe(["news/"])
        ben.connect(address, "anna")
        await noticed.until(lambda: bool(noticed.noticed))
        anna.publish([b"news/", b"1"])
        await ear.until(lambda: bool(ear.heard))

    async def test_who_answers_must_hold_the_key_that_is_expected(self, wire: Wire) -> None:
        _, _, address = await wire.open("eve")
        ben, ear, _ = await wire.open("ben")
        ben.subscribe(["news/"])
        ben.connect(address, "anna")
        await ear.until(lambda: "handshake" in ear.kinds())
        assert f"{address} does not hold the key of anna" in ear.turned_away[0][1]

    async def test_nobody_is_called_whose_key_is_not_known(self, wire: Wire) -> None:
        ben, ear, _ = await wire.open("ben")
        for name in ("", "stranger", "nobody"):
            ben.connect("tcp://127.0.0.1:9", name)
        assert [kind for kind, _ in ear.turned_away] == ["unknown key"] * 3

    async def test_another_peer_may_turn_up_at_an_address(self, wire: Wire) -> None:
        anna, noticed, address = await wire.open("anna")
        ben, ear, _ = await wire.open("ben")
        ben.subscribe(["news/"])
        ben.connect(address, "eve")
        await ear.until(lambda: "handshake" in ear.kinds())
        ben.connect(address, "anna")
        await noticed.until(lambda: bool(noticed.noticed))
        anna.publish([b"news/", b"1"])
        await ear.until(lambda: bool(ear.heard))


class Tap:
    """A proxy port: passes on what two sides say to each other, keeps a copy, and can change it on the way."""

    def __init__(self, change: Callable[[bytes], bytes] = bytes) -> None:
        self.seen = bytearray()
        self._change, self._servers, self._tasks = change, list[asyncio.Server](), set[asyncio.Task[None]]()

    async def between(self, port: int, listen: int = 0) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            for source, target in ((reader, back), (there, writer)):
                task = asyncio.ensure_future(self._pump(source, target))
                self._tasks.add(task)

        server = await asyncio.start_server(serve, "127.0.0.1", listen)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            self.seen += data
            target.write(self._change(data))
        target.close()

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def tap() -> AsyncIterator[Callable[..., Tap]]:
    made: list[Tap] = []

    def make(*change: Any) -> Tap:
        made.append(Tap(*change))
        return made[-1]

    yield make
    for each in made:
        await each.close()


PLANTED = torch.arange(1000, dtype=torch.float32)


class Friend:
    """A capability that knows when its node is linked, and hears answers."""

    topics: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.linked_with, self.answered = asyncio.Event(), asyncio.Event()
        self.handlers: Mapping[Any, Any] = {QueryAnswer: lambda _envelope, _answer: self.answered.set()}

    def linked(self, peer: PeerInfo) -> None:
        self.linked_with.set()

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Nothing to do."""


def member(name: str, *join: str, keyed: bool = True) -> tuple[Node, Friend]:
    keys = ring(name) if keyed else None
    node = Node(NodeSpec(name, "client", "run", "tcp://127.0.0.1:0", join=join, keys=keys), ZmqTransport(keys=keys))
    friend = Friend()
    node.add(friend)
    return node, friend


async def talk(tapped: Tap, *, keyed: bool) -> None:
    """Anna sends a planted tensor to ben, who reaches her through a proxy only at first."""
    anna, hers = member("anna", keyed=keyed)
    async with asyncio.timeout(PATIENCE), anna:
        endpoint = await tapped.between(int(anna.address.rsplit(":", 1)[1]))
        ben, his = member("ben", f"anna@tcp://127.0.0.1:{endpoint}", keyed=keyed)
        async with ben:
            await hers.linked_with.wait()
            await his.linked_with.wait()
            anna.tell("ben", QueryAnswer(query=1, outputs={"x": PLANTED}, seconds=0.0))
            await his.answered.wait()


class TestOnTheWire:
    async def test_a_capture_holds_none_of_a_planted_tensors_bytes(self, tap: Callable[..., Tap]) -> None:
        open_tap, keyed_tap = tap(), tap()
        await talk(open_tap, keyed=False)
        await talk(keyed_tap, keyed=True)
        planted = PLANTED.numpy().tobytes()
        pieces = {planted[start : start + 16] for start in range(0, len(planted), 16)}
        assert planted in open_tap.seen, "this capture shows what there is to see without keys"
        assert len(keyed_tap.seen) > len(planted)
        assert not [piece for piece in pieces if piece in keyed_tap.seen]
        assert not [word for word in (b"query_answer", b"hello", b"presence/", b"to/ben/") if word in keyed_tap.seen]

    async def test_a_man_in_the_middle_with_keys_of_his_own_is_refused_and_named(
        self, wire: Wire, tap: Callable[..., Tap]
    ) -> None:
        """Eve answers in anna's place: trusted or not, she is not who is expected."""
        _, _, address = await wire.open("eve")
        endpoint = await tap().between(int(address.rsplit(":", 1)[1]))
        ben, ear, _ = await wire.open("ben")
        ben.connect(f"tcp://127.0.0.1:{endpoint}", "anna")
        await ear.until(lambda: "handshake" in ear.kinds())
        assert "does not hold the key of anna" in dict(ear.turned_away)["handshake"]

    async def test_a_byte_that_is_changed_on_the_way_breaks_the_connection_which_is_made_anew(
        self, wire: Wire, tap: Callable[..., Tap]
    ) -> None:
        flipped: list[Any] = []

        def flip(data: bytes) -> bytes:
            if len(data) < 1000 or flipped:
                return data
            flipped.append(data)
            return data[:-1] + bytes([data[-1] ^ 1])

        anna, noticed, address = await wire.open("anna")
        endpoint = await tap(flip).between(int(address.rsplit(":", 1)[1]))
        ben, ear, _ = await wire.open("ben")
        ben.subscribe(["news/"])
        ben.connect(f"tcp://127.0.0.1:{endpoint}", "anna")
        await noticed.until(lambda: (b"news/", True) in noticed.noticed)
        anna.publish([b"news/", b"changed" * 1000])
        await ear.until(lambda: "handshake" in ear.kinds())
        await noticed.until(lambda: noticed.noticed[-2:] == [(b"news/", False), (b"news/", True)])
        anna.publish([b"news/", b"whole" * 1000])
        await ear.until(lambda: bool(ear.heard))
        assert ear.heard == [[b"news/", b"whole" * 1000]]
