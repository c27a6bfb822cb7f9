"""A relay over real sockets: who only connects outwards is linked, asked, lost and named like anybody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zmq

from fednet.api import Progress, Question
from launch.run.devices import is_port_free
from nodes.capability import Handler
from nodes.compute import ComputeThread
from nodes.errors import NodeError
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.queries.client import QueryClient
from nodes.queries.responder import QueryResponder
from nodes.spec import NodeSpec
from nodes.transport.backlog import Backlog
from nodes.transport.memory import MemoryNetwork
from nodes.transport.relay import Gate, Relay, _forward
from nodes.transport.zmq import ZmqTransport
from protocol import topics
from protocol.messages import Message
from protocol.messages.presence import PeerInfo
from protocol.quorum import QuorumPolicy
from protocol.security.keys import Keyring, PrivateKeys
from tests.ports import free_ports

PATIENCE = 30.0


class Ear:
    """A capability that remembers who came and went."""

    topics: tuple[str, ...] = ()
    handlers: Mapping[type[Message], Handler] = {}

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.changed = asyncio.Event()

    def linked(self, peer: PeerInfo) -> None:
        self.events.append(("linked", peer.name))
        self.changed.set()

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        self.events.append(("left" if left else "lost", peer.name))
        self.changed.set()

    async def until(self, *events: tuple[str, str]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not set(events) <= set(self.events):
                self.changed.clear()
                await self.changed.wait()


class Tripler:
    """Answers with three times x."""

    def prepare(self, progress: Progress) -> str:
        return "{}"

    def answer(self, question: Question) -> Mapping[str, torch.Tensor]:
        return {"y": 3 * question.inputs["x"]}


KEYS = {name: PrivateKeys.make(name) for name in ("open", "one", "other", "guest", "stranger")}
RELAY = PrivateKeys.make("hub", "relay")
TRUSTED = [RELAY.public, *(keys.public for name, keys in KEYS.items() if name != "stranger")]


class Place:
    """A relay, and nodes that bind an address or speak through it, all of them with keys or none."""

    def __init__(self, relay: str, folder: Path, stack: AsyncExitStack, *, keyed: bool = False) -> None:
        self.relay, self.folder, self._stack, self.keyed = relay, folder, stack, keyed

    def node(self, name: str, role: Any, *, outwards: bool, join: str = "") -> Node:
        where: dict[str, Any] = {"through": self.relay} if outwards else {}
        keys = Keyring.of(KEYS[name], TRUSTED) if self.keyed else None
        spec = NodeSpec(
            name, role, "test", f"ipc://{self.folder}/{name}", join=(join or self.relay,), keys=keys, **where
        )
        return Node(spec, ZmqTransport(keys=keys))

    async def client(self, name: str, *, outwards: bool, join: str = "") -> tuple[Node, Ear]:
        node, compute = self.node(name, "client", outwards=outwards, join=join), ComputeThread(name)
        self._stack.callback(compute.close)
        ear, responder, capability_publisher = Ear(), QueryResponder(node, compute), CapabilityPublisher(node)
        for capability in (ear, responder, capability_publisher):
            node.add(capability)
        await self._stack.enter_async_context(node)
        responder.open(Tripler(), ("triple",))
        capability_publisher.show("{}")
        return node, ear

    async def guest(self, *expected: str, outwards: bool = False) -> QueryClient:
        node = self.node("guest", "guest", outwards=outwards)
        directory = PeerDirectory(node, expected)
        requester = QueryClient(node, directory, QuorumPolicy())
        for capability in (directory, requester):
            node.add(capability)
        await self._stack.enter_async_context(node)
        await directory.complete(PATIENCE)
        return requester


def four_free_ports() -> int:
    """The first of four free ports in a row."""
    return next(
        port for port in free_ports() if is_port_free("127.0.0.1", port + 2) and is_port_free("127.0.0.1", port + 3)
    )


@pytest.fixture(params=["ipc", "tcp", "tcp with keys"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    address = f"ipc://{tmp_path}/relay" if request.param == "ipc" else f"tcp://127.0.0.1:{four_free_ports()}"
    keyed = request.param.endswith("keys")
    async with AsyncExitStack() as stack:
        stack.enter_context(Relay(address, Keyring.of(RELAY, TRUSTED) if keyed else None))
        yield Place(f"hub@{address}" if keyed else address, tmp_path, stack, keyed=keyed)


@pytest.mark.parametrize("guest_outwards", [False, True])
async def test_questions_reach_who_only_connects_outwards(place: Place, *, guest_outwards: bool) -> None:
    await place.client("open", outwards=False)
    await place.client("one", outwards=True)
    await place.client("other", outwards=True)
    requester = await place.guest("open", "one", "other", outwards=guest_outwards)
    for number in range(20):
        replies = await requester.ask(Question("triple", {"x": torch.tensor([float(number)])}))
        assert {name: outputs["y"].item() for name, outputs in replies.by_node.items()} == dict.fromkeys(
            ("open", "one", "other"), 3.0 * number
        )
    large = torch.rand(1 << 20)
    replies = await requester.ask(Question("triple", {"x": large}))
    assert all(outputs["y"].equal(3 * large) for outputs in replies.by_node.values())


async def test_who_leaves_behind_it_is_missed(place: Place) -> None:
    async with AsyncExitStack() as short:
        _, ear = await place.client("one", outwards=True)
        other = Place(place.relay, place.folder, short, keyed=place.keyed)
        await other.client("other", outwards=True)
        await ear.until(("linked", "other"))
    await ear.until(("left", "other"))


async def test_a_relay_that_dies_takes_along_who_speaks_through_it_and_nobody_else(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        place = Place(f"ipc://{tmp_path}/relay", tmp_path, stack)
        with Relay(place.relay):
            first, ear = await place.client("first", outwards=False)
            await place.client("second", outwards=False, join=first.address)
            await place.client("outside", outwards=True)
            await ear.until(("linked", "second"), ("linked", "outside"))
        await ear.until(("lost", "outside"))
        assert ("lost", "second") not in ear.events


class Watched(Backlog):
    """Remembers how much ever waited."""

    def __init__(self, full: int) -> None:
        super().__init__()
        self.full, self.most, self.filled = full, 0, threading.Event()

    def bytes(self, topic: str | None = None) -> int:
        now = super().bytes()
        self.most = max(self.most, now)
        if now > self.full:
            self.filled.set()
        return now


def test_only_so_many_bytes_wait_for_who_reads_nothing_and_nothing_is_lost_for_the_others() -> None:
    full, count, frame = 4 << 20, 48, bytes(1 << 20)
    backlog, context = Watched(full), zmq.Context()
    inward, outward = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    relay = threading.Thread(target=_forward, args=(inward, outward, backlog, full, Gate(keyed=False)), daemon=True)
    with context.socket(zmq.XPUB) as speaker, context.socket(zmq.SUB) as deaf, context.socket(zmq.SUB) as other:
        speaker.linger, other.rcvtimeo, deaf.rcvhwm = 0, int(1000 * PATIENCE), 1
        speaker.connect(f"tcp://127.0.0.1:{inward.bind_to_random_port('tcp://127.0.0.1')}")
        endpoint = f"tcp://127.0.0.1:{outward.bind_to_random_port('tcp://127.0.0.1')}"
        relay.start()
        for ear, topic in ((deaf, b"news/"), (other, b"new")):
            ear.subscribe(topic)
            ear.connect(endpoint)
            assert speaker.recv() == b"\x01" + topic
        for number in range(count):
            speaker.send_multipart([b"news/", bytes([number]), frame])
        assert backlog.filled.wait(PATIENCE)
        deaf.close()
        assert [other.recv_multipart()[1][0] for _ in range(count)] == list(range(count))
    context.term()
    relay.join(PATIENCE)
    assert full < backlog.most <= full + len(frame)


def test_an_address_that_cannot_be_bound_is_named(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=r"cannot listen on tcp://256\.0\.0\.1"):
        Relay("tcp://256.0.0.1:5000")
    with Relay(f"ipc://{tmp_path}/a"):
        pass


async def test_beyond_loopback_it_must_be_said_aloud(tmp_path: Path) -> None:
    spec = NodeSpec("a", "client", "test", "tcp://127.0.0.1:0", through="tcp://192.0.2.1:5000")
    with pytest.raises(NodeError, match=r"192\.0\.2\.1:5000 is open to the network"):
        await Node(spec, MemoryNetwork().bus()).__aenter__()


class TestKeys:
    @pytest.fixture
    def hub(self, tmp_path: Path) -> Iterator[str]:
        with Relay(f"ipc://{tmp_path}/hub", Keyring.of(RELAY, TRUSTED)):
            yield f"hub@ipc://{tmp_path}/hub"

    async def test_the_relay_reads_none_of_a_planted_tensors_bytes(self, hub: str, tmp_path: Path) -> None:
        """Heard is what a subscriber hears that the relay lets in to everything: all that it has in its hands."""
        planted = torch.arange(1000, dtype=torch.float32)
        bytes_ = planted.numpy().tobytes()
        with zmq.Context() as context, context.socket(zmq.SUB) as ear:
            own = KEYS["open"]
            ear.curve_secretkey, ear.curve_publickey = bytes.fromhex(own.curve), bytes.fromhex(own.public.curve)
            ear.curve_serverkey = bytes.fromhex(RELAY.public.curve)
            ear.subscribe(b"")
            ear.connect(topics.split_endpoint(hub)[1])
            async with AsyncExitStack() as stack:
                place = Place(hub, tmp_path, stack, keyed=True)
                await place.client("one", outwards=True)
                requester = await place.guest("one", outwards=True)
                while not await asyncio.to_thread(ear.poll, 10):
                    await requester.ask(Question("triple", {"x": torch.zeros(1)}))  # until it hears what is said
                replies = await requester.ask(Question("triple", {"x": planted}))
                assert replies.by_node["one"]["y"].equal(3 * planted)
            heard: list[list[bytes]] = []
            ear.rcvtimeo = int(1000 * PATIENCE)
            while sum(len(frame) > len(bytes_) for frames in heard for frame in frames) < 2:
                heard.append(ear.recv_multipart())  # until the tensor went this way, and came back
            while ear.poll(200):
                heard.append(ear.recv_multipart())
        assert {b"queries/", b"to/guest/", b"to/one/"} <= {frames[0] for frames in heard}
        seen = b"".join(frame for frames in heard for frame in frames)
        assert not [start for start in range(0, len(bytes_), 16) if bytes_[start : start + 16] in seen]
        assert not [word for word in (b"triple", b"hello", b"query_answer", b"group_key_grant") if word in seen]

    async def test_who_asks_to_join_in_anothers_name_is_not_called(self, hub: str, tmp_path: Path) -> None:
        """The relay lets everybody subscribe to everything; what says where to connect to is signed."""
        trap = f"ipc://{tmp_path}/trap"
        async with AsyncExitStack() as stack:
            node = Place(hub, tmp_path, stack, keyed=True).node("open", "client", outwards=True)
            refused, told = asyncio.Event(), node.refused
            node.refused = lambda kind, why: [told(kind, why), refused.set()]  # type: ignore[method-assign,assignment]
            await stack.enter_async_context(node)
            with zmq.Context() as context, context.socket(zmq.SUB) as ear:
                own = KEYS["other"]
                ear.curve_secretkey, ear.curve_publickey = bytes.fromhex(own.curve), bytes.fromhex(own.public.curve)
                ear.curve_serverkey = bytes.fromhex(RELAY.public.curve)
                ear.subscribe(topics.JoinRequest("one", 2**62, "test", trap, bytes(64)).topic)
                ear.connect(topics.split_endpoint(hub)[1])
                async with asyncio.timeout(PATIENCE):
                    await refused.wait()
            assert set(node.counts) == {"tampered"}
            assert isinstance(node._bus, ZmqTransport)
            assert trap not in node._bus._links._claims

    async def test_a_stranger_does_not_get_in(
        self, hub: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with AsyncExitStack() as stack:
            place = Place(hub, tmp_path, stack, keyed=True)
            stranger = place.node("stranger", "client", outwards=True)
            refused, told = asyncio.Event(), stranger.refused
            monkeypatch.setattr(stranger, "refused", lambda kind, why: [told(kind, why), refused.set()])
            await stack.enter_async_context(stranger)
            async with asyncio.timeout(PATIENCE):
                await refused.wait()
            assert set(stranger.counts) == {"not let in"}
            assert KEYS["stranger"].public.curve in caplog.text

    async def test_whose_relay_it_is_must_be_known_and_said(self, hub: str, tmp_path: Path) -> None:
        keys = Keyring.of(KEYS["one"], [each for each in TRUSTED if not each.relay])
        spec = NodeSpec("one", "client", "test", f"ipc://{tmp_path}/one", keys=keys, through=hub)
        with pytest.raises(NodeError, match=r"key of the relay at .* is not trusted here"):
            await Node(spec, ZmqTransport(keys=keys)).__aenter__()
        with pytest.raises(NodeError, match="say name@ipc"):
            await Node(replace(spec, through=topics.split_endpoint(hub)[1]), MemoryNetwork().bus()).__aenter__()

    async def test_a_relays_keys_are_nobodys(self, tmp_path: Path) -> None:
        keys = Keyring.of(RELAY, TRUSTED)
        assert not {"hub"} & {*keys.trusted, *keys.names_by_signing_key.values(), *keys.names_by_curve_key.values()}
        with pytest.raises(NodeError, match="those of a relay"):
            await Node(NodeSpec("hub", "client", "test", "memory://a", keys=keys), MemoryNetwork().bus()).__aenter__()

    async def test_a_relay_that_lets_a_node_in_only_later_is_called_again(self, tmp_path: Path) -> None:
        """ZeroMQ gives up where it was turned away; the node does not."""
        address = f"tcp://127.0.0.1:{four_free_ports()}"
        async with AsyncExitStack() as stack:
            place = Place(f"hub@{address}", tmp_path, stack, keyed=True)
            with Relay(address, Keyring.of(RELAY, [])):
                one = place.node("one", "client", outwards=True)
                refused, told = asyncio.Event(), one.refused
                one.refused = lambda kind, why: [told(kind, why), refused.set()]  # type: ignore[method-assign,assignment]
                await stack.enter_async_context(one)
                async with asyncio.timeout(PATIENCE):
                    await refused.wait()
            stack.enter_context(Relay(address, Keyring.of(RELAY, TRUSTED)))
            ear = Ear()
            one.add(ear)
            await place.client("other", outwards=True)
            await ear.until(("linked", "other"))
