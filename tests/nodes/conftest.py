"""A cluster within one process: nodes on a MemoryNetwork, models that compute in no time or as long as told."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor

from fednet.api import Network, Progress, Question, SiteContext
from fednet.methods import registry
from fednet.methods.common.disclosure import Disclosure
from fednet.methods.contract import Method
from nodes.capability import Capability
from nodes.client import run_client
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.queries import responder as answering
from nodes.queries.client import QueryClient
from nodes.queries.responder import QueryResponder
from nodes.spec import NodeSpec
from nodes.transport.memory import Faults, MemoryNetwork, MemoryTransport
from protocol import codec, topics
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.limits import Limits
from protocol.messages import Capabilities, Heartbeat, Hello, Message, PeerInfo, ProgressReport, Welcome
from protocol.quorum import QuorumPolicy


class InlineCompute:
    """Stands in for the compute thread: jobs one after another on the loop's clock, each taking `seconds`."""

    def __init__(self, seconds: float | Callable[[Callable[[], Any]], float] = 0.0) -> None:
        self.seconds = seconds
        self._free = 0.0

    def run(self, job: Callable[[], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        start = max(self._free, loop.time())
        seconds = self.seconds(job) if callable(self.seconds) else self.seconds
        self._free = start + seconds
        loop.call_at(start, self._begin, job, done, seconds)
        return done

    def post(self, job: Callable[[], Any], deliver: Callable[[Any], None]) -> None:
        self.run(job).add_done_callback(lambda done: done.cancelled() or deliver(done.result()))

    def _begin(self, job: Callable[[], Any], done: asyncio.Future[Any], seconds: float) -> None:
        try:
            settle = partial(done.set_result, job())
        except Exception as error:
            settle = partial(done.set_exception, error)
        asyncio.get_running_loop().call_later(seconds, lambda: done.cancelled() or settle())


class Scaler:
    """Answers `scale` with its factor times x, and remembers what it was asked."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.asked: list[Question] = []

    def prepare(self, progress: Progress) -> str:
        progress.report("preparing", 1, 1)
        return f'{{"factor": {self.factor}}}'

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        self.asked.append(question)
        return {"y": self.factor * question.inputs["x"]}


@dataclass
class Client:
    """A node that answers."""

    node: Node
    bus: MemoryTransport
    responder: QueryResponder
    capability_publisher: CapabilityPublisher
    answerer: Scaler
    compute: InlineCompute

    def ready(self) -> None:
        """Answers from now on, and says so."""
        self.responder.open(self.answerer, ("scale",))
        self.capability_publisher.show(self.answerer.prepare(SimpleNamespace(report=lambda *_told: None)))


@dataclass
class Guest:
    """A node that asks."""

    node: Node
    bus: MemoryTransport
    directory: PeerDirectory
    requester: QueryClient


class ForgedEnvelope(Envelope):
    """Any metadata passes for valid where it is sent."""

    def violation(self) -> str | None:
        return None


class Forger:
    """Says anything to a node, as somebody who speaks the wire but keeps none of its rules; hears its answers."""

    def __init__(self, bus: MemoryTransport, name: str, incarnation: int = 1, run: str = "test") -> None:
        self.bus, self.name, self.incarnation, self.run = bus, name, incarnation, run
        self.heard: list[Envelope] = []
        address = f"memory://{name}"
        self.me = PeerInfo(
            name=name, incarnation=incarnation, role="client", address=address, heartbeat_address=address
        )

    async def send_join_request(self, node: Node, address: str = "") -> Forger:
        """Connects both ways."""
        await self.bus.open(address or self.me.address, self)
        request = topics.JoinRequest(self.name, self.incarnation, self.run, address or self.me.address)
        self.bus.subscribe(["to/", "presence/", request.topic])
        self.bus.connect(node.address)
        await asyncio.sleep(0.1)
        return self

    async def link(self, node: Node, latest: Mapping[str, int] | None = None) -> Forger:
        """Connects both ways and shakes hands."""
        await self.send_join_request(node)
        greeted = node.presence.me.incarnation
        hello = Hello(peer=self.me, receiver_incarnation=greeted, members=(), latest=dict(latest or {}))
        self.say(topics.inbox(node.name), hello)
        self.say(topics.inbox(node.name), Welcome(receiver_incarnation=greeted))
        ticks, me = itertools.count(), self.incarnation

        def heartbeat() -> Sequence[Buffer]:
            beat = Heartbeat(tick=next(ticks), latest={})
            return codec.encode(Envelope(topics.HEARTBEATS, "test", self.me.name, me, 0, beat))

        self.bus.beat(heartbeat, 0.25)
        await asyncio.sleep(0.1)
        assert self.name in node.presence.linked()
        return self

    def say(self, topic: str, message: Message, number: int = 0) -> list[Buffer]:
        """Says a message on any topic, under any number."""
        frames = codec.encode(ForgedEnvelope(topic, self.run, self.name, self.incarnation, number, message))
        self.bus.publish(frames)
        return frames

    def refused(self, kind: str, why: str) -> None:
        """Nothing is refused on the in-memory bus."""

    def charge(self, *_of: Any) -> bool:
        return True

    def received(self, frames: Sequence[Buffer], origin: str = "") -> None:
        self.heard.append(codec.decode(frames, Limits()))

    def subscribed(self, topic: bytes, present: bool, origin: str = "") -> None:
        """Nothing to do."""

    def messages(self, kind: type[Message]) -> list[Any]:
        """What it heard of one kind."""
        return [envelope.message for envelope in self.heard if isinstance(envelope.message, kind)]


class Recorder:
    """A capability that remembers the capabilities and the progress it hears, and who came and went."""

    topics: tuple[str, ...] = (topics.PROGRESS,)

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.events: list[tuple[str, ...]] = []
        self.handlers: Mapping[Any, Any] = {
            ProgressReport: lambda _envelope, report: self.heard.append(report.phase),
            Capabilities: lambda _envelope, capabilities: self.heard.append(capabilities.text),
        }

    def linked(self, peer: PeerInfo) -> None:
        self.events.append(("linked", peer.name))

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        self.events.append(("left" if left else "lost", peer.name, reason))


@dataclass
class Cluster:
    """Nodes that come and go on one network; everybody left is taken down at the end."""

    network: MemoryNetwork
    stack: AsyncExitStack
    clients: dict[str, Client] = field(default_factory=dict)

    async def client(
        self, name: str, join: Sequence[str] = (), *, factor: float = 1.0, seconds: float = 0.0, ready: bool = True
    ) -> Client:
        """A client is started; it joins through the first one unless told otherwise."""
        bus = self.network.bus()
        node = Node(self.spec(name, join=tuple(join) or self.endpoint()), bus)
        compute = InlineCompute(seconds)
        client = Client(node, bus, QueryResponder(node, compute), CapabilityPublisher(node), Scaler(factor), compute)  # type: ignore[arg-type]
        await self.enter(node, client.responder, client.capability_publisher)
        self.clients[name] = client
        if ready:
            client.ready()
        return client

    async def guest(
        self, name: str = "guest", join: Sequence[str] = (), *, expected: Sequence[str] = (), **policy: Any
    ) -> Guest:
        """A guest is started."""
        bus = self.network.bus()
        node = Node(self.spec(name, "guest", join=tuple(join) or self.endpoint()), bus)
        directory = PeerDirectory(node, tuple(expected))
        guest = Guest(node, bus, directory, QueryClient(node, directory, QuorumPolicy(**policy)))
        await self.enter(node, directory, guest.requester)
        return guest

    async def start(self, name: str, *join: str, **changes: Any) -> tuple[Node, Recorder]:
        """A node that only listens is started; it joins through these."""
        recorder = Recorder()
        spec = self.spec(name, join=tuple(f"{other}@memory://{other}" for other in join), **changes)
        return await self.enter(Node(spec, self.network.bus()), recorder), recorder

    def linked(self, *nodes: Node) -> bool:
        """Whether each of these nodes is linked with all the others."""
        return all(len(node.presence.linked()) == len(nodes) - 1 for node in nodes)

    async def enter(self, node: Node, *capabilities: Capability) -> Node:
        """Any node is put on the network."""
        for capability in capabilities:
            node.add(capability)
        return await self.stack.enter_async_context(node)

    def forger(self, name: str = "forger", **said: Any) -> Forger:
        """Somebody who keeps no rules."""
        return Forger(self.network.bus(), name, **said)

    def endpoint(self) -> tuple[str, ...]:
        """An address to join through, once there is one."""
        return (next(iter(self.clients.values())).node.address,) if self.clients else ()

    def spec(self, name: str, role: Any = "client", **changes: Any) -> NodeSpec:
        """What a node of this cluster is told."""
        return NodeSpec(name=name, role=role, run="test", listen=f"memory://{name}", **changes)


@pytest.fixture
def tell(fake_time: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Tells a story `async def story(cluster)` on fake time, on a network with these faults."""

    def told(story: Callable[[Cluster], Any], faults: Faults | None = None, seed: int = 0) -> Any:
        async def whole() -> Any:
            loop_time = SimpleNamespace(monotonic=asyncio.get_running_loop().time)
            monkeypatch.setattr(answering, "time", loop_time)
            async with AsyncExitStack() as stack:
                return await story(Cluster(MemoryNetwork(faults, seed), stack))

        return fake_time(whole())

    return told


class Empty(BaseModel):
    """A method's configuration without a key."""


@dataclass
class Scaling:
    """A method that scales, in the catalog of methods; what it does can be replaced."""

    agents: dict[str, Scaler] = field(default_factory=dict)

    def agent(self, config: BaseModel, site: SiteContext, own: Mapping[str, Any]) -> Scaler:
        self.agents[site.name] = Scaler(own.get("factor", 1.0 + site.index))
        return self.agents[site.name]

    def run(self, config: BaseModel, network: Network, folder: Path, seed: int, progress: Progress) -> None:
        replies = network.ask(Question("scale", {"x": torch.tensor([float(seed)])}))
        progress.report("asking", 1, 1)
        said = {name: [network.capabilities[name], *outputs["y"].tolist()] for name, outputs in replies.by_node.items()}
        (folder / "metrics.json").write_text(json.dumps(said))


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> Scaling:
    """The method "scaling", for the time of a test."""
    method = Scaling()
    told, find = (Disclosure("question", "scale", "none", "multiples"),), registry.find
    registered = Method("scaling", "scales", Empty, lambda *given: method.agent(*given), method.run, disclosures=told)  # noqa: PLW0108 - a test puts another agent there
    monkeypatch.setattr(registry, "find", lambda name: registered if name == "scaling" else find(name))
    return method


@pytest.fixture
def real_spec(tmp_path: Path) -> Callable[..., NodeSpec]:
    """Specifications of nodes with real sockets below a folder of the test; they join through `c0`."""

    def make(name: str, role: Any = "client", **changes: Any) -> NodeSpec:
        join = () if name == "c0" else (f"ipc://{tmp_path}/c0.sock",)
        defaults: dict[str, Any] = {"join": join, "folder": tmp_path, "method": "scaling", "config": Empty()}
        return NodeSpec(name, role, "test", f"ipc://{tmp_path}/{name}.sock", **{**defaults, **changes})

    return make


@pytest.fixture
async def site(real_spec: Callable[..., NodeSpec], scaling: Scaling) -> AsyncIterator[Callable[..., Any]]:
    """Starts clients with real sockets and threads, and stops them at the end."""
    stop, started = asyncio.Event(), []

    def start(name: str, **changes: Any) -> asyncio.Task[None]:
        started.append(asyncio.create_task(run_client(real_spec(name, **changes), stop)))
        return started[-1]

    yield start
    stop.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*started, return_exceptions=True)


@pytest.fixture
def question() -> Callable[..., Question]:
    """Makes a question about x = [number, -number, 1/3]."""

    def make(number: int = 1, **options: Any) -> Question:
        return Question("scale", {"x": torch.tensor([float(number), -float(number), 1 / 3])}, options)

    return make


@pytest.fixture
def inline() -> type[InlineCompute]:
    """Stands in for the compute thread; see its class."""
    return InlineCompute
