"""Who can be asked: the clients that are linked, what their cards say, and waiting until they are ready."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from nodes.capability import Handler
from nodes.errors import MethodMismatch, PeersMissing
from nodes.node import Node
from protocol.codec import Envelope
from protocol.messages import Capabilities, Message
from protocol.messages.presence import PeerInfo
from protocol.presence import PeerState
from protocol.topics import PRESENCE

SETTLE_SECONDS = 0.75
"""Seconds without any change after which a guest that expects nobody in particular takes the directory as complete."""

_NO_CAPABILITIES = (-1, Capabilities(text="{}", ready=False))


class PeerDirectory:
    """The clients of a run, as a requester sees them.

    Args:
        node: the node that asks.
        expected: names of the clients that belong to the run; empty for whoever is there.
    """

    topics: tuple[str, ...] = (PRESENCE,)

    def __init__(self, node: Node, expected: tuple[str, ...]) -> None:
        self._node = node
        self._expected = expected
        self._capabilities_by_peer: dict[str, tuple[int, Capabilities]] = {}  # with the incarnation that showed it
        self._gone: dict[str, str] = {}
        self._ready: dict[str, str] = {}
        self._methods: dict[str, str] = {}
        self._changed = asyncio.Event()
        self.handlers: Mapping[type[Message], Handler] = {Capabilities: self._card}

    def ready(self) -> dict[str, str]:
        """The cards of the clients that can be asked now, by name in sorted order."""
        return self._ready

    def methods(self) -> dict[str, str]:
        """The method that each of these clients runs, by name; empty where its capabilities name none."""
        return dict(self._methods)

    def missing(self) -> dict[str, str]:
        """Why each client that belongs to the run cannot be asked now."""
        absent = sorted((set(self._expected) | set(self._gone)) - set(self.ready()))
        return {name: self.absence(name) for name in absent}

    def absence(self, name: str) -> str:
        """Why a client that is not among the ready ones cannot be asked now."""
        return self._gone.get(name) or (self._state(name) if self.belongs(name) else "not of this run")

    def belongs(self, name: str) -> bool:
        """Whether a client is one of the run, as far as this node has been told which are."""
        return not self._expected or name in self._expected

    async def complete(self, patience: float) -> dict[str, str]:
        """Waits until every client of the run is ready, and returns their cards.

        A client that is lost while it is waited for may come back; the wait does not end early for it.

        Raises:
            PeersMissing: not everybody was ready after `patience` seconds.
            OtherMethod: this node is here for one method, and somebody who is ready runs another.
        """
        try:
            async with asyncio.timeout(patience):
                while not await self._complete():
                    await self._changed.wait()
        except TimeoutError:
            raise PeersMissing(self.missing(), patience) from None
        wanted = self._node.spec.method
        others = {name: method for name, method in self._methods.items() if method != wanted}
        if wanted and others:
            raise MethodMismatch(wanted, others)
        return self.ready()

    async def _complete(self) -> bool:
        self._changed.clear()
        if self._expected:
            return set(self._expected) <= set(self.ready())
        return bool(self.ready()) and not self._pending() and await self._settled()

    async def _settled(self) -> bool:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return bool(self.ready()) and not self._pending()
        return False

    def _pending(self) -> bool:
        """Whether a client is on its way: known but not linked, or linked but not ready."""
        clients = [info.name for info in self._node.presence.members() if info.role == "client"]
        return any(name not in self.ready() for name in clients)

    def _review(self) -> None:
        """Something has changed: who is ready is worked out here, not at every question."""
        clients = [info for info in self._node.presence.linked().values() if info.role == "client"]
        shown = {
            info.name: parse_capabilities(self._capabilities_by_peer[info.name][1].text)
            for info in clients
            if self._is_ready(info)
        }
        self._methods = {name: method for name, (method, _) in shown.items()}
        self._ready = {name: text for name, (_, text) in shown.items()}
        self._changed.set()

    def _is_ready(self, info: PeerInfo) -> bool:
        incarnation, card = self._capabilities_by_peer.get(info.name, _NO_CAPABILITIES)
        return self.belongs(info.name) and incarnation == info.incarnation and card.ready

    def _state(self, name: str) -> str:
        if self._node.presence.state(name) is PeerState.LINKED:
            return "not ready yet"
        return "being linked" if self._node.presence.state(name) is PeerState.KNOWN else "never seen"

    def _card(self, envelope: Envelope, card: Capabilities) -> None:
        """A card has come; one that was repaired may come late, and nobody who was ready ceases to be."""
        incarnation, shown = self._capabilities_by_peer.get(envelope.sender, _NO_CAPABILITIES)
        if card.ready or not shown.ready or incarnation != envelope.incarnation:
            self._capabilities_by_peer[envelope.sender] = (envelope.incarnation, card)
            self._review()

    def linked(self, peer: PeerInfo) -> None:
        """A peer can be heard and hears us."""
        self._gone.pop(peer.name, None)
        self._review()

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """A peer is gone."""
        if peer.role == "client" and self.belongs(peer.name):
            self._gone[peer.name] = f"left: {reason}" if left else f"lost: {reason}"
        self._review()


class CapabilityPublisher:
    """The other side: a client that shows its card to everybody, and to each newcomer."""

    topics: tuple[str, ...] = ()

    def __init__(self, node: Node) -> None:
        self._node = node
        self._card = Capabilities(text="{}", ready=False)
        self.handlers: Mapping[type[Message], Handler] = {}

    def show(self, text: str) -> None:
        """From now on this client answers, and says so, with its method's card in an envelope that names the method."""
        self._card = Capabilities(text=json.dumps({"method": self._node.spec.method, "card": text}), ready=True)
        self._node.publish(PRESENCE, self._card)

    def linked(self, peer: PeerInfo) -> None:
        """A newcomer has not heard the card."""
        self._node.tell(peer.name, self._card)

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Nothing to do."""


def parse_capabilities(text: str) -> tuple[str, str]:
    """The method that a card names, and the method's own card; no method where it came in no envelope."""
    try:
        folded = json.loads(text)
        return str(folded["method"]), str(folded["card"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "", text
