"""The transport that a node needs: publish, subscribe, connect, disconnect, close.

`ZmqTransport` speaks ZeroMQ between processes; `MemoryTransport` carries the same frames within one process and can
drop, delay, duplicate and reorder them. Frames are opaque here; `protocol` knows what they contain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from protocol.frames import Buffer
from protocol.security.budget import Cost
from protocol.security.keys import Keyring


class TransportListener(Protocol):
    """Who hears what a bus receives; called on the event loop, must not block."""

    def received(self, frames: Sequence[Buffer], origin: str = "") -> None:
        """A message has come, its topic first; `origin` has proven its key at the other end, empty where nobody has."""

    def charge(self, payer: str, cost: Cost, amount: float = 1.0) -> bool:
        """Whether a peer that has proven its key may cause this now; a negative amount is given back."""

    def subscribed(self, topic: bytes, present: bool, origin: str = "") -> None:
        """Somebody has subscribed to a topic here, or the last one who had has gone (or lost its connection).

        `origin` has proven its key at the other end; empty where nobody has, or the connection has ended.
        """

    def refused(self, kind: str, why: str) -> None:
        """Somebody who does not belong here was turned away."""


class Transport(Protocol):
    """A transport. Publishing never blocks and may lose; numbering and repair are the node's."""

    async def open(self, listen: str, listener: TransportListener, through: str | None = None) -> tuple[str, str]:
        """Binds and begins to hear; returns the addresses of the messages and of the heartbeats.

        With the address of a relay to speak `through`, nothing is bound, and its addresses are returned.

        Raises:
            NodeError: the address cannot be bound.
        """

    def subscribe(self, topics: Iterable[str]) -> None:
        """Hears these topics (prefixes, each ending in "/") of every peer, present and future."""

    def trust(self, keys: Keyring, gone: Collection[str]) -> None:
        """From now on these keys are let in and no others; the connections of those who are gone end."""

    def connect(self, address: str, name: str = "") -> None:
        """Hears the peer `name` at this address; reconnects by itself; idempotent.

        Where there are keys, whoever answers there must hold that peer's.
        """

    def disconnect(self, address: str, name: str = "") -> None:
        """Hears the peer `name` there no more, and goes on for others that are there; idempotent."""

    def publish(self, frames: Sequence[Buffer]) -> None:
        """Sends a message to the subscribers of its topic; may be called from any thread while the loop runs."""

    def queued(self, topic: str | None = None) -> int:
        """Bytes of large frames, of one topic or of all, that wait for the slowest subscriber to take them."""

    def strand(self) -> None:
        """A subscriber is gone whose connection may still stand: what is queued now is no longer counted."""

    def beat(self, make: Callable[[], Sequence[Buffer]], every: float) -> None:
        """Publishes `make()` on the heartbeat address every so many seconds, off the event loop."""

    async def close(self) -> None:
        """Sends what is still queued, for a moment, and lets go of every resource."""
