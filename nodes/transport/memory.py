"""The bus within one process, for tests of races: it can drop, delay, duplicate and reorder, and be cut.

Every delivery goes through the event loop's timers, so that a loop with a fake clock replays minutes of trouble
in milliseconds, and a seed replays the same trouble.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from nodes.errors import NodeError
from nodes.transport.interface import TransportListener
from protocol.frames import Buffer
from protocol.security.keys import Keyring


@dataclass(frozen=True)
class Faults:
    """What goes wrong with messages: probabilities in [0, 1] and seconds."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: tuple[float, float] = (0.0, 0.0)
    heartbeats_too: bool = False


class MemoryNetwork:
    """What a set of memory buses is connected to."""

    def __init__(self, faults: Faults | None = None, seed: int = 0) -> None:
        self.faults = faults or Faults()
        self.lost = 0
        self.carried = 0
        self._random = random.Random(seed)  # noqa: S311 - replayable trouble, not secrets
        self._buses: dict[str, MemoryTransport] = {}
        self._cut: set[frozenset[str]] = set()

    def bus(self) -> MemoryTransport:
        """A new bus on this network."""
        return MemoryTransport(self)

    def cut(self, one: str, other: str) -> None:
        """Lets nothing pass between two addresses, without either being told."""
        self._cut.add(frozenset({one, other}))

    def heal(self, one: str, other: str) -> None:
        """Undoes `cut`."""
        self._cut.discard(frozenset({one, other}))

    def bind(self, address: str, bus: MemoryTransport) -> None:
        """Enters a bus under its address."""
        if address in self._buses:
            raise NodeError(f"cannot listen on {address}: address already in use; choose another address")
        self._buses[address] = bus
        for other in self._buses.values():
            if address in other.connected:
                self.announce(address, other.topics, present=True)

    def unbind(self, address: str) -> None:
        """Removes a bus; those it was subscribed to notice its connection break."""
        bus = self._buses.pop(address, None)
        if bus is not None:
            for peer in bus.connected:
                self.announce(peer, bus.topics, present=False)

    def announce(self, address: str, topics: Sequence[bytes], *, present: bool) -> None:
        """Tells the bus at an address of subscriptions to it that began or ended."""
        publisher = self._buses.get(address)
        if publisher is not None:
            for topic in topics:
                asyncio.get_running_loop().call_soon(publisher.noticed, topic, present)

    def carry(self, sender: str, frames: Sequence[Buffer], *, heartbeat: bool) -> None:
        """Brings a message to whoever is connected to its sender and subscribed to its topic, or loses it."""
        topic = bytes(frames[0])
        for address, bus in list(self._buses.items()):
            if sender in bus.connected and topic.startswith(tuple(bus.topics)):
                self._deliver(sender, address, bus, [bytes(frame) for frame in frames], heartbeat=heartbeat)

    def _deliver(
        self, sender: str, address: str, bus: MemoryTransport, frames: list[bytes], *, heartbeat: bool
    ) -> None:
        self.carried += 1
        faults = Faults() if heartbeat and not self.faults.heartbeats_too else self.faults
        if frozenset({sender, address}) in self._cut or self._random.random() < faults.drop:
            self.lost += 1
            return
        for _ in range(2 if self._random.random() < faults.duplicate else 1):
            asyncio.get_running_loop().call_later(self._random.uniform(*faults.delay), bus.heard, frames)


class MemoryTransport:
    """A `Transport` on a `MemoryNetwork`; addresses are `memory://name`."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self._listener: TransportListener | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._address = ""
        self.stuck = 0
        self.connected: dict[str, set[str]] = {}
        self.topics: list[bytes] = []

    async def open(self, listen: str, listener: TransportListener, through: str | None = None) -> tuple[str, str]:
        """Enters the network, in which everybody can be reached: there are no relays here."""
        self._address, self._listener = listen, listener
        self._network.bind(listen, self)
        return listen, listen

    def subscribe(self, topics: Iterable[str]) -> None:
        """Hears these topics."""
        new = [topic.encode() for topic in topics]
        self.topics += new
        for address in self.connected:
            self._network.announce(address, new, present=True)

    def trust(self, keys: Keyring, gone: Collection[str]) -> None:
        """Does nothing: here everybody may hear everybody, as through a relay that lies."""

    def connect(self, address: str, name: str = "") -> None:
        """Hears the bus at this address, now or once it is there."""
        names = self.connected.setdefault(address, set()) if address != self._address else {name}
        if name in names:
            return
        names.add(name)
        if len(names) == 1:
            self._network.announce(address, self.topics, present=True)

    def disconnect(self, address: str, name: str = "") -> None:
        """Hears this peer there no more, and goes on while others are there."""
        names = self.connected.get(address, set()) - {"", name}
        if address in self.connected and not names:
            del self.connected[address]
            self._network.announce(address, self.topics, present=False)
        elif names:
            self.connected[address] = names

    def publish(self, frames: Sequence[Buffer]) -> None:
        """Sends to whoever has subscribed."""
        if self._listener is not None:
            self._network.carry(self._address, frames, heartbeat=False)

    def queued(self, topic: str | None = None) -> int:
        """As many bytes as a test says."""
        return self.stuck

    def strand(self) -> None:
        """What is stuck is so for somebody who is gone."""
        self.stuck = 0

    def beat(self, make: Callable[[], Sequence[Buffer]], every: float) -> None:
        """Publishes heartbeats by a timer."""
        if self._listener is not None:
            self._network.carry(self._address, make(), heartbeat=True)
            self._beating = asyncio.get_running_loop().call_later(every, self.beat, make, every)

    async def close(self) -> None:
        """Leaves the network."""
        self.crash()

    def crash(self) -> None:
        """Is gone from one moment to the next, as a killed process is."""
        self._listener = None
        if self._beating is not None:
            self._beating.cancel()
        self._network.unbind(self._address)

    def heard(self, frames: list[bytes]) -> None:
        """A message has come."""
        if self._listener is not None:
            self._listener.received(frames)

    def noticed(self, topic: bytes, present: bool) -> None:
        """Somebody has subscribed or gone."""
        if self._listener is not None:
            self._listener.subscribed(topic, present)
