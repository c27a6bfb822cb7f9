"""Peers that offer each other embeddings of a few numbers, in one process, on a network that may drop and reorder."""

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
from nodes.spec import RoundsPolicy, Timing
from protocol.topics import EXCHANGE

WIDTH = 4


class NumberExchanger:
    """An exchanger whose embeddings are its number plus the sum of all that it has absorbed: the order matters."""

    def __init__(self, name: str, number: float, width: int = WIDTH) -> None:
        self.name, self.number, self.width = name, number, width
        self.plans: list[ExchangePlan] = []
        self.absorbed_offers: list[Offer] = []
        self.version = 0
        self.known: tuple[Offer, ...] = ()
        self.alter: Callable[[Tensor], Tensor] = lambda embeddings: embeddings

    def prepare(self, progress: Progress) -> str:
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        return {}

    def initial_offers(self) -> tuple[Offer, ...]:
        return self.known

    def offer(self, plan: ExchangePlan, progress: Progress) -> OfferBatch:
        self.plans.append(plan)
        if plan.options.get("declines") == self.name:
            raise MethodError("it has nothing to offer")
        if plan.options.get("fails") == self.name:
            raise ZeroDivisionError("bug")
        progress.report(plan.task, 1, 1)
        self.version += 1
        count = int(plan.options.get("subjects", 2) or 0)
        return OfferBatch(tuple(self.make_offer(f"s{index}") for index in range(count)), {"number": self.number})

    def make_offer(self, subject: str) -> Offer:
        total = sum((offer.embeddings.sum() for offer in self.current().values()), torch.zeros(()))
        embeddings = torch.full((2, self.width), self.number) + total / 64
        return Offer(self.name, subject, self.version, self.alter(embeddings))

    def absorb(self, offer: Offer) -> None:
        if offer.embeddings.shape[1] != WIDTH:
            raise MethodError(f"tokens have {offer.embeddings.shape[1]} values, expected {WIDTH}")
        self.absorbed_offers.append(offer)

    def current(self) -> dict[tuple[str, str], Offer]:
        """The latest that it has absorbed, by origin and subject."""
        return {(offer.origin, offer.subject): offer for offer in self.absorbed_offers}

    def summary(self) -> dict[tuple[str, str], tuple[int, list[list[float]]]]:
        """The same, as versions and numbers."""
        return {key: (offer.version, offer.embeddings.tolist()) for key, offer in sorted(self.current().items())}


@dataclass
class Peer:
    """A node that offers and absorbs."""

    node: Node
    bus: Any
    service: ExchangePeer
    exchanger: NumberExchanger
    publisher: CapabilityPublisher

    async def ready(self) -> None:
        await self.service.open(self.exchanger)
        self.publisher.show("{}")


@dataclass
class ExchangeGroup:
    """Peers, and a driver that requests exchanges."""

    cluster: Any
    compute: Callable[..., Any]
    names: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    client: ExchangeClient | None = None
    driver: Node | None = None

    async def peer(
        self, name: str, *, seconds: Any = 1.0, ready: bool = True, exchanger: NumberExchanger | None = None
    ) -> Peer:
        bus = self.cluster.network.bus()
        node = Node(self.cluster.spec(name, join=self.addresses(), expected=self.names, **self.changes), bus)
        service, publisher = ExchangePeer(node, self.compute(seconds)), CapabilityPublisher(node)
        peer = Peer(node, bus, service, exchanger or NumberExchanger(name, self.number(name)), publisher)
        await self.cluster.enter(node, publisher, service)
        self.peers[name] = peer
        if ready:
            await peer.ready()
        return peer

    def number(self, name: str) -> float:
        return float(self.names.index(name) + 1)

    async def start(self, *, seconds: Any = 1.0, **policy: Any) -> None:
        """All peers join, and a driver."""
        for name in self.names:
            await self.peer(name, seconds=seconds)
        await self.add_driver(**policy)

    async def add_driver(
        self, name: str = "driver", expected: tuple[str, ...] | None = None, **policy: Any
    ) -> ExchangeClient:
        bus, expected = self.cluster.network.bus(), self.names if expected is None else expected
        timing = self.changes["timing"]
        node = Node(self.cluster.spec(name, "guest", join=self.addresses(), expected=expected, timing=timing), bus)
        peers = PeerDirectory(node, expected)
        client = ExchangeClient(node, peers, RoundsPolicy(**policy))
        await self.cluster.enter(node, peers, client)
        await peers.complete(60)
        self.client, self.driver = client, node
        return client

    async def exchange(self, key: str = "k", work: str = "learn", **options: Any) -> ExchangeRecord:
        """Requests an exchange and waits for its record."""
        assert self.client is not None
        async with asyncio.timeout(4000):
            return await self.client.exchange(ExchangePlan(key, work, options))

    @staticmethod
    def slow(job: Any) -> float:
        """A thread on which work takes a minute, and absorbing no time."""
        return 0.0 if isinstance(job, partial) else 60.0

    @staticmethod
    def comparable(record: ExchangeRecord) -> Any:
        """A record without what depends on the bus."""
        return record.key, record.offered, record.absorbed, record.values, record.refused, record.late, record.lost

    @staticmethod
    def make_offer(origin: str, value: float, subject: str = "s0", version: int = 1) -> Offer:
        return Offer(origin, subject, version, torch.full((2, WIDTH), value))

    def publish_offer(self, name: str, offer: Offer) -> None:
        """A peer publishes an offer, its own or another's, whatever its exchanger has."""
        self.peers[name].node.publish(EXCHANGE, to_offer_message(offer, ""))

    def crash(self, name: str) -> Peer:
        """A peer is gone from one moment to the next."""
        peer = self.peers.pop(name)
        peer.bus.crash()
        for work in list(peer.node._works):
            work.cancel()
        return peer

    def addresses(self) -> tuple[str, ...]:
        return tuple(peer.node.address for peer in list(self.peers.values())[:2])

    def summaries(self) -> dict[str, Any]:
        """What every peer has absorbed."""
        return {name: peer.exchanger.summary() for name, peer in sorted(self.peers.items())}


@pytest.fixture
def make_group(inline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., ExchangeGroup]:
    """Makes a group of peers, named a, b and c unless told otherwise.

    Most of a story is idle, and heartbeats and sweeps are most of its work: they are rarer here than by default.
    """
    monkeypatch.setattr("nodes.node.SWEEP_INTERVAL", 0.2)

    def make(cluster: Any, *names: str, **changes: Any) -> ExchangeGroup:
        return ExchangeGroup(cluster, inline, names or ("a", "b", "c"), {"timing": Timing(heartbeat=0.4), **changes})

    return make


@pytest.fixture
def exchangers() -> Callable[..., dict[str, NumberExchanger]]:
    """The traders of a make_group, for one process."""

    def make(*names: str) -> dict[str, NumberExchanger]:
        return {name: NumberExchanger(name, float(index + 1)) for index, name in enumerate(names or ("a", "b", "c"))}

    return make


@pytest.fixture
def restored() -> Callable[..., NumberExchanger]:
    """An exchanger with offers of an earlier incarnation."""

    def make(name: str, *known: Offer) -> NumberExchanger:
        exchanger = NumberExchanger(name, 1.0)
        exchanger.known = known
        return exchanger

    return make


@pytest.fixture
def no_exchanger() -> Any:
    """A site that is no exchanger."""
    return SimpleNamespace()
