"""The bus over real sockets: what is promised of every transport, and what only a real one can get wrong."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from nodes.capability import Handler
from nodes.errors import NodeError
from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport.zmq import BATCH, ZmqTransport
from protocol.limits import Limits
from protocol.messages import Message
from protocol.security.budget import Cost
from tests.ports import free_ports

PATIENCE = 20.0


class Ear:
    """Remembers what a bus hears and notices, and wakes who waits for it."""

    def __init__(self) -> None:
        self.heard: list[list[bytes]] = []
        self.noticed: list[tuple[bytes, bool]] = []
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
        """Nothing is refused in these tests."""

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Wire:
    """Opens buses on one transport, and closes them all at the end."""

    def __init__(self, transport: str, folder: Path, stack: AsyncExitStack) -> None:
        self.transport, self.folder, self._stack, self._count = transport, folder, stack, 0

    def address(self) -> str:
        self._count += 1
        return "tcp://127.0.0.1:0" if self.transport == "tcp" else f"ipc://{self.folder}/run/{self._count}.sock"

    async def open(self, listen: str = "", limits: Limits | None = None) -> tuple[ZmqTransport, Ear, tuple[str, str]]:
        bus, ear = ZmqTransport(limits), Ear()
        addresses = await bus.open(listen or self.address(), ear)
        self._stack.push_async_callback(bus.close)
        return bus, ear, addresses

    async def pair(self, limits: Limits | None = None) -> tuple[ZmqTransport, Ear, ZmqTransport, Ear]:
        """A bus, and another that hears it under `news/` and has been noticed."""
        one, noticed, (address, _) = await self.open()
        other, ear, _ = await self.open(limits=limits)
        other.subscribe(["news/", "join/other/"])
        other.connect(address)
        await noticed.until(lambda: (b"join/other/", True) in noticed.noticed)
        return one, noticed, other, ear


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_socket()]


@pytest.fixture(params=["tcp", "ipc"])
async def wire(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wire]:
    async with AsyncExitStack() as stack:
        yield Wire(request.param, tmp_path, stack)
    assert not left(tmp_path), "a socket file is left"


async def drained(bus: ZmqTransport) -> None:
    """Waits until nothing large waits: ZeroMQ lets go of it on a thread of its own, and tells nobody."""
    async with asyncio.timeout(PATIENCE):
        while bus.queued():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


async def test_any_thread_publishes(wire: Wire) -> None:
    one, _, _, ear = await wire.pair()

    def publish(number: int) -> None:
        for _ in range(50):
            one.publish([b"news/", bytes([number]), bytes([number]) * (1 << 17)])

    await asyncio.gather(*(asyncio.to_thread(publish, number) for number in range(4)))
    await ear.until(lambda: len(ear.heard) == 200)
    assert all(small * (1 << 17) == large for _, small, large in ear.heard)


class TestRoom:
    async def test_large_frames_wait_for_a_subscriber_that_reads_nothing_and_go_with_it(self, wire: Wire) -> None:
        one, noticed, (address, _) = await wire.open()
        with zmq.Context() as context, context.socket(zmq.SUB) as deaf:
            deaf.rcvhwm = 1
            deaf.subscribe("news/")
            deaf.connect(address)
            await noticed.until(lambda: (b"news/", True) in noticed.noticed)
            for number in range(64):
                one.publish([b"news/", bytes([number]) * (1 << 20), b"small"])
            assert 16 << 20 < one.queued() <= 64 << 20
        await drained(one)

    async def test_what_is_read_and_what_is_small_does_not_wait(self, wire: Wire) -> None:
        one, _, _, ear = await wire.pair()
        for _ in range(8):
            one.publish([b"news/", bytes(1 << 20)])
        await ear.until(lambda: len(ear.heard) == 8)
        await drained(one)
        one.publish([b"news/", bytes(1 << 10)])
        assert one.queued() == 0


class TestDelivery:
    async def test_it_brings_all_frames_of_what_was_subscribed_to(self, wire: Wire) -> None:
        one, _, _, ear = await wire.pair()
        one.publish([b"other/", b"not heard"])
        one.publish([b"news/", b"header", memoryview(b"buffer"), b""])
        await ear.until(lambda: bool(ear.heard))
        assert ear.heard == [[b"news/", b"header", b"buffer", b""]]

    async def test_many_messages_come_in_order_though_each_wakeup_takes_few(self, wire: Wire) -> None:
        one, _, _, ear = await wire.pair()
        count = 6 * BATCH
        for number in range(count):
            one.publish([b"news/", str(number).encode()])
        await ear.until(lambda: len(ear.heard) == count)
        assert [int(frames[1]) for frames in ear.heard] == list(range(count))

    async def test_large_frames_are_whole(self, wire: Wire) -> None:
        one, _, _, ear = await wire.pair()
        large = bytes(range(256)) * (1 << 15)
        one.publish([b"news/", large])
        await ear.until(lambda: bool(ear.heard))
        assert ear.heard[0][1] == large

    async def test_both_can_talk_and_answer(self, wire: Wire) -> None:
        one, noticed, other, ear = await wire.pair()
        one.subscribe(["answer/"])
        one.connect(other._address)
        await ear.until(lambda: (b"answer/", True) in ear.noticed)
        for number in range(20):
            one.publish([b"news/", b"?"])
            await ear.until(lambda: len(ear.heard) > number)  # noqa: B023
            other.publish([b"answer/", b"!"])
            await noticed.until(lambda: len(noticed.heard) > number)  # noqa: B023

    async def test_a_frame_beyond_the_limit_is_not_taken_and_the_bus_lives_on(self, wire: Wire) -> None:
        one, noticed, other, ear = await wire.pair(Limits(max_frame_bytes=1000))
        one.publish([b"news/", bytes(1001)])
        await noticed.until(lambda: (b"join/other/", False) in noticed.noticed)
        other.disconnect(one._address)  # ZeroMQ does not come back by itself to who broke the protocol
        other.connect(one._address)
        await noticed.until(lambda: noticed.noticed.count((b"join/other/", True)) == 2)
        one.publish([b"news/", bytes(1000)])
        await ear.until(lambda: bool(ear.heard))
        assert [len(frames[1]) for frames in ear.heard] == [1000]


class TestConnections:
    async def test_a_subscription_from_before_the_publisher_was_there_is_noticed(self, wire: Wire) -> None:
        early, _, _ = await wire.open()
        address = f"tcp://127.0.0.1:{next(free_ports())}" if wire.transport == "tcp" else wire.address()
        early.connect(address)
        early.subscribe(["join/early/"])
        _, noticed, _ = await wire.open(address)
        await noticed.until(lambda: noticed.noticed == [(b"join/early/", True)])

    async def test_a_break_is_noticed(self, wire: Wire) -> None:
        _, noticed, other, _ = await wire.pair()
        await other.close()
        await noticed.until(lambda: (b"join/other/", False) in noticed.noticed)

    async def test_who_disconnects_is_noticed_and_may_come_back(self, wire: Wire) -> None:
        one, noticed, other, ear = await wire.pair()
        other.disconnect(one._address)
        other.disconnect(one._address)
        await noticed.until(lambda: (b"join/other/", False) in noticed.noticed)
        other.connect(one._address)
        other.connect(one._address)
        await noticed.until(lambda: noticed.noticed.count((b"join/other/", True)) == 2)
        one.publish([b"news/", b"again"])
        await ear.until(lambda: bool(ear.heard))
        assert ear.heard == [[b"news/", b"again"]]

    @pytest.mark.parametrize("address", ["memory://a", "nonsense", "tcp://", f"ipc:///{'x' * 170}"])
    async def test_an_address_that_is_none_is_a_warning(
        self, wire: Wire, address: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        one, _, other, ear = await wire.pair()
        with caplog.at_level(logging.WARNING):
            other.connect(address)
        assert f"cannot connect to {address}" in caplog.text
        one.publish([b"news/", b"alive"])
        await ear.until(lambda: bool(ear.heard))


class TestAddresses:
    async def test_port_0_finds_two_ports_side_by_side(self, wire: Wire) -> None:
        _, _, (address, heartbeat) = await wire.open("tcp://127.0.0.1:0")
        port = int(address.removeprefix("tcp://127.0.0.1:"))
        assert port > 0
        assert heartbeat == f"tcp://127.0.0.1:{port + 1}"

    async def test_an_address_in_use_is_refused_by_name(self, wire: Wire) -> None:
        _, noticed, (address, _) = await wire.open()
        with pytest.raises(NodeError) as caught:
            await wire.open(address)
        assert str(caught.value) == f"cannot listen on {address}: address already in use; choose another address"
        other, _, _ = await wire.open()
        other.subscribe(["join/other/"])
        other.connect(address)
        await noticed.until(lambda: (b"join/other/", True) in noticed.noticed)

    async def test_a_heartbeat_address_in_use_is_named_too(self, wire: Wire, tmp_path: Path) -> None:
        with socket.socket() if wire.transport == "tcp" else socket.socket(socket.AF_UNIX) as blocker:
            if wire.transport == "tcp":
                port = next(free_ports())
                blocker.bind(("127.0.0.1", port + 1))
                listen, taken = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}"
            else:
                listen, taken = f"ipc://{tmp_path}/a", f"ipc://{tmp_path}/a.heartbeat"
                blocker.bind(f"{tmp_path}/a.heartbeat")
                blocker.listen()
            with pytest.raises(NodeError, match=f"cannot listen on {taken}: address already in use"):
                await wire.open(listen)
        (tmp_path / "a.heartbeat").unlink(missing_ok=True)

    @pytest.mark.parametrize(
        "listen", ["tcp://127.0.0.1:65535", "tcp://192.0.2.1:5000", "tcp://nonsense", "what://ever"]
    )
    async def test_an_impossible_address_is_refused_by_name(self, wire: Wire, listen: str) -> None:
        with pytest.raises(NodeError, match="cannot listen on "):
            await wire.open(listen)

    async def test_a_path_that_cannot_be_is_refused_by_name(self, wire: Wire, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(NodeError, match="cannot listen on ipc://"):
            await wire.open(f"ipc://{tmp_path}/file/node.sock")
        with pytest.raises(NodeError, match="cannot listen on ipc://"):
            await wire.open(f"ipc://{tmp_path}/{'x' * 150}")

    async def test_a_socket_file_that_a_dead_process_left_is_taken_over(self, wire: Wire, tmp_path: Path) -> None:
        stale = tmp_path / "stale.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(stale))
        await wire.open(f"ipc://{stale}")


class TestClose:
    async def test_what_was_published_just_before_still_comes(self, wire: Wire) -> None:
        one, _, _, ear = await wire.pair()
        one.publish([b"news/", b"goodbye"])
        await one.close()
        await ear.until(lambda: bool(ear.heard))

    async def test_publishing_afterwards_is_silent(self, wire: Wire) -> None:
        one, _, _, _ = await wire.pair()
        await one.close()
        one.publish([b"news/", b"too late"])

    async def test_the_heartbeat_ends_with_it(self, wire: Wire) -> None:
        one, _, _ = await wire.open()
        one.beat(lambda: [b"heartbeat/", b""], 0.01)
        thread = one._beating
        assert thread is not None
        assert thread.is_alive()
        await one.close()
        assert not thread.is_alive()


async def test_the_heart_beats_while_the_event_loop_is_blocked(wire: Wire) -> None:
    beating, _, (_, heartbeat) = await wire.open()
    listening, ear, _ = await wire.open()
    listening.subscribe(["heartbeat/"])
    listening.connect(heartbeat)
    beats: list[None] = []
    enough = threading.Event()

    def make() -> list[bytes]:
        beats.append(None)
        if len(beats) >= 10:
            enough.set()
        return [b"heartbeat/", str(len(beats)).encode()]

    beating.beat(make, 0.01)
    await ear.until(lambda: bool(ear.heard))
    assert enough.wait(PATIENCE)  # the event loop stands still here
    await ear.until(lambda: int(ear.heard[-1][1]) >= 10)


async def test_nodes_link_and_part_over_it(wire: Wire) -> None:
    linked, parted = asyncio.Event(), asyncio.Event()

    class Watcher:
        topics: tuple[str, ...] = ()
        handlers: Mapping[type[Message], Handler] = {}

        def linked(self, peer: Any) -> None:
            linked.set()

        def departed(self, peer: Any, reason: str, *, left: bool) -> None:
            assert left
            parted.set()

    one = Node(NodeSpec("one", "client", "test", wire.address()), ZmqTransport())
    one.add(Watcher())
    async with asyncio.timeout(PATIENCE), one:
        async with Node(
            NodeSpec("other", "client", "test", wire.address(), join=(one.address,)), ZmqTransport()
        ) as other:
            await linked.wait()
            assert one.presence.is_current("other", other.presence.me.incarnation)
        await parted.wait()
