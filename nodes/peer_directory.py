"""Who can be asked: the clients that are linked, what they announce and can do, and waiting until they are ready."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from nodes.capability import Handler
from nodes.errors import MethodMismatch, PeersMissing
from nodes.node import Node
from protocol.codec import Envelope
from protocol.messages import Capabilities, Message
from protocol.messages.presence import PeerInfo
from protocol.presence import PeerState
from protocol.text import plain_text
from protocol.topics import PRESENCE

SETTLE_SECONDS = 0.75
"""Seconds without any change after which a guest that expects nobody in particular takes the directory as complete."""

SHOWN = 80
"""Characters of a method's name that are kept."""

_NO_CAPABILITIES = (-1, Capabilities(text="{}", ready=False))


@dataclass(frozen=True)
class SiteStatement:
    """What a client says of itself to everybody; a text of JSON within `Capabilities`.

    Attributes:
        method: the method that it runs; empty where it says none.
        announcement: what it tells the other sites before any of them prepares; empty where its method has none.
        agreement: the digest of all sites' announcements, once it has agreed with them.
        card: its method's capabilities, once it is ready.
    """

    method: str = ""
    announcement: str = ""
    agreement: str = ""
    card: str = "{}"

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


def parse_statement(text: str) -> SiteStatement:
    """What a client says of itself; a text that is no statement is taken for a card without a method."""
    try:
        fields = json.loads(text)
        known = {name: str(fields.get(name, "")) for name in ("announcement", "agreement")}
        return SiteStatement(method=plain_text(str(fields["method"])[:SHOWN]), card=str(fields["card"]), **known)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return SiteStatement(card=text)


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
        self._announced: dict[str, SiteStatement] = {}
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

    def members(self) -> tuple[str, ...]:
        """The clients of the run: those that this node was told of, or else all that it has met."""
        met = {info.name for info in self._node.presence.members() if info.role == "client"}
        return tuple(sorted(self._expected or met | set(self._gone)))

    def belongs(self, name: str) -> bool:
        """Whether a client is one of the run, as far as this node has been told which are."""
        return not self._expected or name in self._expected

    async def complete(self, patience: float) -> dict[str, str]:
        """Waits until every client of the run is ready, and returns their cards.

        A client that is lost while it is waited for may come back; the wait does not end early for it.

        Raises:
            PeersMissing: not everybody was ready after `patience` seconds.
            MethodMismatch: this node is here for one method, and somebody who is ready runs another.
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

    async def announced(self, waiting: Callable[[int, int], None] = lambda _done, _total: None) -> dict[str, str]:
        """Waits until every client of the run has announced, and returns the announcements by name.

        Args:
            waiting: told how many of how many have, whenever that changes.
        """
        expected = set(self._expected)
        while True:
            self._changed.clear()
            waiting(len(expected & set(self._announced)), len(expected))
            if expected <= set(self._announced):
                return {name: self._announced[name].announcement for name in sorted(expected)}
            await self._changed.wait()

    def other_agreements(self, agreement: str) -> tuple[str, ...]:
        """The clients that have agreed on something else than this digest."""
        said = {name: statement.agreement for name, statement in self._announced.items()}
        return tuple(sorted(name for name, other in said.items() if other and other != agreement))

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
        shown, ready = dict[str, SiteStatement](), dict[str, SiteStatement]()
        for info in self._node.presence.linked().values():
            incarnation, card = self._capabilities_by_peer.get(info.name, _NO_CAPABILITIES)
            if info.role == "client" and self.belongs(info.name) and incarnation == info.incarnation:
                shown[info.name] = parse_statement(card.text)
                if card.ready:
                    ready[info.name] = shown[info.name]
        self._announced = {name: statement for name, statement in shown.items() if statement.announcement}
        self._methods = {name: statement.method for name, statement in ready.items()}
        self._ready = {name: statement.card for name, statement in ready.items()}
        self._changed.set()

    def _state(self, name: str) -> str:
        if self._node.presence.state(name) is PeerState.LINKED:
            return "not ready yet"
        return "being linked" if self._node.presence.state(name) is PeerState.KNOWN else "never seen"

    def _card(self, envelope: Envelope, card: Capabilities) -> None:
        """A statement has come; one that was repaired may come late, and nobody takes back what he has said."""
        incarnation, shown = self._capabilities_by_peer.get(envelope.sender, _NO_CAPABILITIES)
        if incarnation != envelope.incarnation or _stage(card) >= _stage(shown):
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


def _stage(card: Capabilities) -> tuple[bool, bool, bool]:
    """How far a client is that says this: ready, agreed, announced."""
    statement = parse_statement(card.text)
    return card.ready, bool(statement.agreement), bool(statement.announcement)


class CapabilityPublisher:
    """The other side: a client that states what it is to everybody, and to each newcomer."""

    topics: tuple[str, ...] = ()

    def __init__(self, node: Node) -> None:
        self._node = node
        self._statement, self._ready = SiteStatement(method=node.spec.method), False
        self.handlers: Mapping[type[Message], Handler] = {}

    def announce(self, text: str) -> None:
        """Tells the other sites what they must know before they prepare."""
        self._publish(replace(self._statement, announcement=text))

    def agree(self, agreement: str) -> None:
        """Says on which announcements this client has agreed, by their digest."""
        self._publish(replace(self._statement, agreement=agreement))

    def show(self, card: str) -> None:
        """From now on this client answers, and says so, with its method's card."""
        self._ready = True
        self._publish(replace(self._statement, card=card))

    def linked(self, peer: PeerInfo) -> None:
        """A newcomer has not heard the statement."""
        self._node.tell(peer.name, self._message())

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Nothing to do."""

    def _publish(self, statement: SiteStatement) -> None:
        self._statement = statement
        self._node.publish(PRESENCE, self._message())

    def _message(self) -> Capabilities:
        return Capabilities(text=self._statement.text(), ready=self._ready)
