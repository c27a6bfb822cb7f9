"""Peers that teach each other words of a few numbers, in one process, on a network that may drop and reorder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.api import ExchangePlan, ExchangeRecord, Offer, OfferBatch, Progress, Question
from fednet.errors import MethodError
from nodes.exchange.client import ExchangeClient
from nodes.exchange.conversion import to_offer_message
from nodes.exchange.peer import ExchangePeer
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.spec import RoundsPolicy
from protocol.topics import EXCHANGE

WIDTH = 4


class Teacher:
    """A trader whose words are its own number and the sum of all that it has absorbed: who does what first matters."""

    def __init__(self, name: str, number: float, width: int = WIDTH) -> None:
        self.name, self.number, self.width = name, number, width
        self.calls: list[ExchangePlan] = []
        self.heard: list[Offer] = []
        self.version = 0
        self.known: tuple[Offer, ...] = ()
        self.spoil: Callable[[Tensor], Tensor] = lambda words: words

    def prepare(self, progress: Progress) -> str:
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        return {}

    def initial_offers(self) -> tuple[Offer, ...]:
        return self.known

    def offer(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        self.calls.append(call)
        if call.options.get("balks") == self.name:
            raise MethodError("it has nothing to teach")
        if call.options.get("breaks") == self.name:
            raise ZeroDivisionError("bug")
        progress.report(call.work, 1, 1)
        self.version += 1
        count = int(call.options.get("subjects", 2) or 0)
        return OfferBatch(tuple(self.words(f"s{index}") for index in range(count)), {"number": self.number})

    def words(self, subject: str) -> Offer:
        total = sum((offer.embeddings.sum() for offer in self.holds().values()), torch.zeros(()))
        words = torch.full((2, self.width), self.number) + total / 64
        return Offer(self.name, subject, self.version, self.spoil(words))

    def absorb(self, offer: Offer) -> None:
        if offer.embeddings.shape[1] != WIDTH:
            raise MethodError(f"words have {offer.embeddings.shape[1]} values, {WIDTH} are needed")
        self.heard.append(offer)

    def holds(self) -> dict[tuple[str, str], Offer]:
        """The latest that it has absorbed, by origin and subject."""
        return {(offer.origin, offer.subject): offer for offer in self.heard}

    def said(self) -> dict[tuple[str, str], tuple[int, list[list[float]]]]:
        """The same, to be compared."""
        return {place: (offer.version, offer.embeddings.tolist()) for place, offer in sorted(self.holds().items())}


@dataclass
class Peer:
    """A node that offers and absorbs."""

    node: Node
    bus: Any
    stall: ExchangePeer
    teacher: Teacher
    presenter: CapabilityPublisher

    async def ready(self) -> None:
        await self.stall.open(self.teacher)
        self.presenter.show("{}")


@dataclass
class Fair:
    """Peers and a guest who calls for exchanges."""

    cluster: Any
    compute: Callable[..., Any]
    names: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    caller: ExchangeClient | None = None
    guest: Node | None = None

    async def peer(self, name: str, *, seconds: Any = 1.0, ready: bool = True, teacher: Teacher | None = None) -> Peer:
        bus = self.cluster.network.bus()
        node = Node(self.cluster.spec(name, join=self.door(), expected=self.names, **self.changes), bus)
        stall, presenter = ExchangePeer(node, self.compute(seconds)), CapabilityPublisher(node)
        peer = Peer(node, bus, stall, teacher or Teacher(name, self.number(name)), presenter)
        await self.cluster.enter(node, presenter, stall)
        self.peers[name] = peer
        if ready:
            await peer.ready()
        return peer

    def number(self, name: str) -> float:
        return float(self.names.index(name) + 1)

    async def assemble(self, *, seconds: Any = 1.0, **policy: Any) -> None:
        """Everybody comes, and a guest."""
        for name in self.names:
            await self.peer(name, seconds=seconds)
        await self.visitor(**policy)

    async def visitor(
        self, name: str = "guest", expected: tuple[str, ...] | None = None, **policy: Any
    ) -> ExchangeClient:
        bus, expected = self.cluster.network.bus(), self.names if expected is None else expected
        node = Node(self.cluster.spec(name, "guest", join=self.door(), expected=expected), bus)
        roster = PeerDirectory(node, expected)
        caller = ExchangeClient(node, roster, RoundsPolicy(**policy))
        await self.cluster.enter(node, roster, caller)
        await roster.complete(60)
        self.caller, self.guest = caller, node
        return caller

    async def exchange(self, key: str = "k", work: str = "learn", **options: Any) -> ExchangeRecord:
        """Has an exchange held."""
        assert self.caller is not None
        async with asyncio.timeout(4000):
            return await self.caller.exchange(ExchangePlan(key, work, options))

    @staticmethod
    def slow(job: Any) -> float:
        """Seconds of a trader whose work takes a minute, and which absorbs in no time."""
        return 0.0 if isinstance(job, partial) else 60.0

    @staticmethod
    def comparable(record: ExchangeRecord) -> Any:
        """A record without what depends on the bus."""
        return record.key, record.offered, record.absorbed, record.values, record.refused, record.late, record.lost

    @staticmethod
    def words(origin: str, value: float, subject: str = "s0", version: int = 1) -> Offer:
        return Offer(origin, subject, version, torch.full((2, WIDTH), value))

    def claim(self, name: str, offer: Offer) -> None:
        """A peer says an offer, its own or another's, whatever its trader knows."""
        self.peers[name].node.publish(EXCHANGE, to_offer_message(offer, ""))

    def bury(self, name: str) -> Peer:
        """Is gone at once."""
        peer = self.peers.pop(name)
        peer.bus.crash()
        for work in list(peer.node._works):
            work.cancel()
        return peer

    def door(self) -> tuple[str, ...]:
        return tuple(peer.node.address for peer in list(self.peers.values())[:2])

    def held(self) -> dict[str, Any]:
        """What every peer has absorbed."""
        return {name: peer.teacher.said() for name, peer in sorted(self.peers.items())}


@pytest.fixture
def fair(inline: Callable[..., Any]) -> Callable[..., Fair]:
    def make(cluster: Any, *names: str, **changes: Any) -> Fair:
        return Fair(cluster, inline, names or ("a", "b", "c"), changes)

    return make


@pytest.fixture
def teachers() -> Callable[..., dict[str, Teacher]]:
    """The traders of a fair, for one process."""

    def make(*names: str) -> dict[str, Teacher]:
        return {name: Teacher(name, float(index + 1)) for index, name in enumerate(names or ("a", "b", "c"))}

    return make


@pytest.fixture
def back() -> Callable[..., Teacher]:
    """A trader that comes back with offers from an earlier life."""

    def make(name: str, *known: Offer) -> Teacher:
        teacher = Teacher(name, 1.0)
        teacher.known = known
        return teacher

    return make


@pytest.fixture
def mute() -> Any:
    """An agent that is no trader."""
    return SimpleNamespace()
