"""The membership of a run as a pure state machine: who joins, who is linked, who is lost.

Its inputs are events with their time (a join request, a hello, a welcome, a heartbeat, a broken connection, a
goodbye); its outputs are outcomes (connect to an address, send a hello, this peer is linked, this peer has departed). A
peer is *linked* once both directions are proven: its hello has arrived, and so has its welcome of our hello. Membership
spreads because a hello names all members that its sender knows; it is sent again to all when a peer joins, and from
time to time, so that two peers that join at the same moment learn of each other. A lost peer that is heard again (it
was stopped, its network was cut) is sent a hello; one that said goodbye must come back as a new incarnation.

Knows no sockets, no clock and no models; times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from protocol.failure_detector import FailureDetector
from protocol.messages.presence import PeerInfo
from protocol.topics import split_endpoint


class PeerState(Enum):
    """The state of a peer."""

    KNOWN = "known"  # its name and address are known
    LINKED = "linked"  # both directions are proven
    LOST = "lost"  # it fell silent, hung or lost its connection
    LEFT = "left"  # it said goodbye


JOIN_REQUEST_TIMEOUT = 30.0
"""Seconds after which a join request without a hello expires."""

_LIVING = frozenset({PeerState.KNOWN, PeerState.LINKED})


@dataclass(frozen=True)
class ConnectTo:
    """Connect to this address, where a node must hold the key of `name`."""

    address: str
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class DisconnectFrom:
    """Drop the connection to this address, unless it is for another than the node or relay `name`."""

    address: str
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class SendHello:
    """Send a hello to this incarnation of a peer."""

    name: str
    incarnation: int = field(default=0, compare=False)


@dataclass(frozen=True)
class PeerLinked:
    """Both directions to this peer are proven."""

    peer: PeerInfo


@dataclass(frozen=True)
class PeerDeparted:
    """This peer is no longer a member; `graceful` for a goodbye, not for a loss."""

    peer: PeerInfo
    reason: str
    graceful: bool


Outcome = ConnectTo | DisconnectFrom | SendHello | PeerLinked | PeerDeparted


@dataclass
class _Peer:
    info: PeerInfo
    seen: float  # when it last gave a sign of life
    detector: FailureDetector  # fed by its heartbeats
    state: PeerState = PeerState.KNOWN
    hello_received: bool = False  # we receive from it
    welcome_received: bool = False  # it receives from us
    hello_due: float = 0.0  # when our next hello is sent
    broken: bool = False  # its connection to us has broken
    tick: int = -1  # the last progress of its event loop ...
    moved: float = 0.0  # ... and when that last changed


@dataclass
class _JoinRequest:
    """A peer that has subscribed, and whose hello has not arrived yet."""

    incarnation: int
    address: str
    since: float
    hello_due: float


@dataclass
class Presence:
    """The members of a run, as one of them sees them.

    Args:
        me: this node.
        silence: seconds without a heartbeat after which a peer is lost; the most that is learned for any peer.
        broken: the same once its connection has broken.
        hang: seconds that a peer's event loop may make no progress.
        hello_interval: seconds between two hellos to a peer that has not sent its welcome.
        hello_refresh: seconds between two hellos to a peer that has.
        alert: the least silence that is learned for any peer, however regular its heartbeats are.
        max_peers: peers that are kept; a further one replaces one that has departed, or is ignored.
    """

    me: PeerInfo
    silence: float = 3.0
    broken: float = 0.5
    hang: float = 30.0
    hello_interval: float = 0.2
    hello_refresh: float = 5.0
    alert: float = 0.75
    max_peers: int = 256
    _peers: dict[str, _Peer] = field(default_factory=dict)
    _join_requests: dict[str, _JoinRequest] = field(default_factory=dict)
    _swept: float | None = None

    def members(self) -> tuple[PeerInfo, ...]:
        """All peers that are known or linked, this node first, then by name."""
        others = (peer.info for _, peer in sorted(self._peers.items()) if peer.state in _LIVING)
        return (self.me, *others)

    def linked(self) -> dict[str, PeerInfo]:
        """The linked peers by name in sorted order."""
        return {name: peer.info for name, peer in sorted(self._peers.items()) if peer.state is PeerState.LINKED}

    def lost_but_connected(self) -> tuple[str, ...]:
        """The lost peers whose connection still stands: what is published is still queued for them."""
        return tuple(
            name for name, peer in sorted(self._peers.items()) if peer.state is PeerState.LOST and not peer.broken
        )

    def state(self, name: str) -> PeerState | None:
        """The state of a peer; None for an unknown one."""
        peer = self._peers.get(name)
        return peer.state if peer else None

    def incarnation(self, name: str) -> int | None:
        """The latest incarnation of a peer in any state; None for an unknown one."""
        peer = self._peers.get(name)
        return peer.info.incarnation if peer else None

    def is_current(self, name: str, incarnation: int) -> bool:
        """Whether this is the present incarnation of a peer that is known or linked."""
        peer = self._peers.get(name)
        return peer is not None and peer.info.incarnation == incarnation and peer.state in _LIVING

    def asks_to_join(self, name: str) -> int | None:
        """The incarnation in which a node has asked to join, and not been heard yet; None for none."""
        request = self._join_requests.get(name)
        return request.incarnation if request else None

    def discover(self, infos: Iterable[PeerInfo], now: float) -> Iterator[Outcome]:
        """Another node has named these peers; connects to new ones and to new incarnations of known ones."""
        for info in infos:
            yield from self._discover(info, now)

    def _discover(self, info: PeerInfo, now: float) -> Iterator[Outcome]:
        known = self._peers.get(info.name)
        if info.name == self.me.name or (known is not None and info.incarnation <= known.info.incarnation):
            return
        if known is not None:
            yield from self._drop(known, "came back as a new incarnation", graceful=False)
            yield from self._forget(known)
        elif len(self._peers) >= self.max_peers:
            departed = [peer for peer in self._peers.values() if peer.state not in _LIVING]
            if not departed:
                return
            yield from self._forget(min(departed, key=lambda peer: (peer.state is PeerState.LOST, peer.seen)))
        self._peers[info.name] = _Peer(info, seen=now, moved=now, detector=FailureDetector(self.alert, self.silence))
        yield from (ConnectTo(info.address, info.name), ConnectTo(info.heartbeat_address, info.name))

    def join_request(self, name: str, incarnation: int, address: str, now: float) -> Iterator[Outcome]:
        """A node has subscribed here and receives from us: connect back, and send it a hello."""
        if name == self.me.name or incarnation < max(self.incarnation(name) or 0, self.asks_to_join(name) or 0):
            return
        peer = self._living(name, incarnation)
        if peer is not None:
            peer.broken, peer.seen, peer.hello_due = False, now, now + self.hello_interval
        elif name in self._join_requests or len(self._join_requests) < self.max_peers:
            yield from self._end_join_request(name, keep=address)
            self._join_requests[name] = _JoinRequest(incarnation, address, now, now + self.hello_interval)
            yield ConnectTo(address, name)
        else:
            return
        yield SendHello(name, incarnation)

    def hello(self, info: PeerInfo, members: Iterable[PeerInfo], now: float) -> Iterator[Outcome]:
        """A peer's hello has arrived: we receive from it; it names the members that it knows."""
        yield from self.discover([info], now)
        peer = self._living(info.name, info.incarnation)
        if peer is None:
            return
        yield from self._end_join_request(info.name)
        if not peer.hello_received:
            self._hello_to_others(peer, now)
        peer.hello_received = True
        peer.seen = now
        yield from self._link(peer)
        yield from self.discover(members, now)

    def welcome(self, name: str, incarnation: int, welcomed: int, now: float) -> Iterator[Outcome]:
        """A peer's welcome of an incarnation of this node has arrived: it receives from us."""
        peer = self._living(name, incarnation)
        if peer is not None and welcomed == self.me.incarnation:
            peer.welcome_received = True
            peer.seen = now
            yield from self._link(peer)

    def heartbeat(self, name: str, incarnation: int, tick: int, now: float) -> Iterator[Outcome]:
        """A peer's heartbeat has arrived, with the progress of its event loop."""
        self._discount_own_pause(now)
        peer = self._peers.get(name)
        if peer is None or peer.info.incarnation != incarnation or peer.state is PeerState.LEFT:
            return
        peer.detector.record(now)
        moved = tick != peer.tick
        if moved:
            peer.tick, peer.moved = tick, now
        if peer.state is not PeerState.LOST:
            peer.seen = now
        elif moved:
            peer.state, peer.seen, peer.welcome_received, peer.broken = PeerState.KNOWN, now, False, False
            peer.hello_due = now + self.hello_interval
            yield SendHello(name, incarnation)

    def connection_lost(self, name: str, incarnation: int) -> Iterator[Outcome]:
        """A peer's connection to us has broken: `broken` is its timeout, unless it subscribes again."""
        request = self._join_requests.get(name)
        if request is not None and request.incarnation == incarnation:
            yield from self._end_join_request(name)
        peer = self._peers.get(name)
        if peer is not None and peer.info.incarnation == incarnation:
            peer.broken = True

    def bar(self, name: str, reason: str, *, forget: bool = False) -> Iterator[Outcome]:
        """A peer's messages are dropped: it is lost until it is heard again, and with `forget` until it joins again."""
        yield from self._end_join_request(name) if forget else ()
        if (peer := self._peers.get(name)) is not None:
            yield from self._drop(peer, reason, graceful=False)
            yield from self._forget(peer) if forget else ()

    def goodbye(self, name: str, incarnation: int, reason: str) -> Iterator[Outcome]:
        """A peer leaves."""
        peer = self._living(name, incarnation)
        if peer is not None:
            yield from self._drop(peer, reason, graceful=True)
            yield from self._disconnect_unused(name, peer.info.address, peer.info.heartbeat_address)

    def sweep(self, now: float) -> Iterator[Outcome]:
        """Hellos that are due again, and losses, at this time. To be called several times within `broken`."""
        self._discount_own_pause(now)
        yield from self._sweep_join_requests(now)
        for name, peer in list(self._peers.items()):
            if peer.state not in _LIVING:
                continue
            reason = self._loss_reason(peer, now)
            if reason:
                yield from self._drop(peer, reason, graceful=False)
            elif now >= peer.hello_due:
                peer.hello_due = now + (self.hello_refresh if peer.welcome_received else self.hello_interval)
                yield SendHello(name, peer.info.incarnation)

    def _sweep_join_requests(self, now: float) -> Iterator[Outcome]:
        for name, request in list(self._join_requests.items()):
            if now - request.since > JOIN_REQUEST_TIMEOUT:
                yield from self._end_join_request(name)
            elif now >= request.hello_due:
                request.hello_due = now + self.hello_interval
                yield SendHello(name, request.incarnation)

    def _living(self, name: str, incarnation: int) -> _Peer | None:
        return self._peers[name] if self.is_current(name, incarnation) else None

    def _hello_to_others(self, newcomer: _Peer, now: float) -> None:
        """All other peers are to learn of a newcomer: their hello is due again."""
        for peer in self._peers.values():
            if peer is not newcomer:
                peer.hello_due = min(peer.hello_due, now)

    def _link(self, peer: _Peer) -> Iterator[Outcome]:
        if peer.hello_received and peer.welcome_received and peer.state is PeerState.KNOWN:
            peer.state = PeerState.LINKED
            yield PeerLinked(peer.info)

    def _loss_reason(self, peer: _Peer, now: float) -> str:
        """Why a peer counts as lost; empty if it does not."""
        silent = now - peer.seen
        if peer.broken and silent > self.broken:
            return f"its connection broke and it was silent for {silent:.1f} s"
        if silent > peer.detector.timeout:
            return f"silent for {silent:.1f} s"
        if peer.state is PeerState.LINKED and now - peer.moved > self.hang:
            return f"its event loop has stood still for {now - peer.moved:.0f} s"
        return ""

    def _discount_own_pause(self, now: float) -> None:
        """Time in which this node itself was stopped or blocked does not count as silence of its peers."""
        paused = now - self._swept if self._swept is not None else 0.0
        self._swept = now
        if paused > self.hello_interval:
            for peer in self._peers.values():
                peer.seen, peer.moved = min(now, peer.seen + paused), min(now, peer.moved + paused)
                peer.detector.discount_pause(paused)

    def _end_join_request(self, name: str, keep: str = "") -> Iterator[Outcome]:
        """Drops a join request, and disconnects from its address unless that is `keep` or still used."""
        request = self._join_requests.pop(name, None)
        if request is not None and request.address != keep:
            yield from self._disconnect_unused(name, request.address)

    def _forget(self, peer: _Peer) -> Iterator[Outcome]:
        del self._peers[peer.info.name]
        yield from self._disconnect_unused(peer.info.name, peer.info.address, peer.info.heartbeat_address)

    def _disconnect_unused(self, name: str, *addresses: str) -> Iterator[Outcome]:
        """Disconnects from addresses of a peer, except where it, or another behind the same relay, may still be heard.

        What other peers say of an address is nothing to this one: a connection belongs to an address and a name.
        """
        peers = [peer.info for peer in self._peers.values() if peer.state is not PeerState.LEFT]
        used = {_endpoint(address, info.name) for info in peers for address in (info.address, info.heartbeat_address)}
        used.update(_endpoint(request.address, asking) for asking, request in self._join_requests.items())
        yield from (DisconnectFrom(text, name) for text in addresses if _endpoint(text, name) not in used)

    def _drop(self, peer: _Peer, reason: str, *, graceful: bool) -> Iterator[Outcome]:
        if peer.state in _LIVING:
            peer.state = PeerState.LEFT if graceful else PeerState.LOST
            yield PeerDeparted(peer.info, reason, graceful)


def _endpoint(text: str, name: str) -> tuple[str, str]:
    """Whose key must answer at an address of a peer, its own or the relay's that the address names; and where."""
    keeper, address = split_endpoint(text)
    return keeper or name, address
