"""Who is there: the membership of a run as a pure state machine.

It is told what happened and when (a knock, a hello, a welcome, a heartbeat, a broken connection, a goodbye) and
returns what follows (connect there, greet this peer, this peer is linked, this peer is lost). A peer is *linked*
once both directions are proven: its hello has come (we hear it) and so has its welcome of our own hello (it hears
us). Membership spreads because a hello names everybody its sender knows; it is said again to everybody when somebody
new is heard, and now and then, so that two who joined at the same moment hear of each other. A peer that was lost and
is heard again (it was stopped, its cable was out) is greeted again; one that said goodbye must come back as a new
incarnation.

Knows no sockets, no clock and no models; times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from protocol.failure_detector import FailureDetector
from protocol.messages.presence import PeerInfo


class PeerState(Enum):
    """How far a peer has come."""

    KNOWN = "known"  # its name and address are known
    LINKED = "linked"  # both directions are proven
    LOST = "lost"  # it fell silent, hung or lost its connection
    LEFT = "left"  # it said goodbye


JOIN_REQUEST_TIMEOUT = 30.0
"""Seconds after which somebody who knocked but never said hello is forgotten."""

_LIVING = frozenset({PeerState.KNOWN, PeerState.LINKED})


@dataclass(frozen=True)
class ConnectTo:
    """Connect to this address, where `name` is said to be: whoever answers there must hold that name's key."""

    address: str
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class DisconnectFrom:
    """Drop the connection to this address."""

    address: str


@dataclass(frozen=True)
class SendHello:
    """Send this life of a peer a hello."""

    name: str
    incarnation: int = field(default=0, compare=False)


@dataclass(frozen=True)
class PeerLinked:
    """Both directions to this peer are proven."""

    peer: PeerInfo


@dataclass(frozen=True)
class PeerDeparted:
    """This peer takes no part any more; `left` tells a goodbye from a loss."""

    peer: PeerInfo
    reason: str
    graceful: bool


Outcome = ConnectTo | DisconnectFrom | SendHello | PeerLinked | PeerDeparted


@dataclass
class _Peer:
    info: PeerInfo
    seen: float  # when it last gave a sign of life
    arrivals: FailureDetector  # of its heartbeats
    state: PeerState = PeerState.KNOWN
    heard: bool = False  # its hello has come: we hear it
    hears: bool = False  # its welcome has come: it hears us
    greet_at: float = 0.0  # when our hello is due again
    broken: bool = False  # its connection to us has broken
    tick: int = -1  # the last progress of its event loop ...
    moved: float = 0.0  # ... and when that last changed


@dataclass
class _Caller:
    """Somebody who has knocked and whose hello has not come yet."""

    incarnation: int
    address: str
    since: float
    greet_at: float


@dataclass
class Presence:
    """The members of a run, as one of them sees them.

    Args:
        me: this node.
        silence: seconds without a heartbeat after which a peer is lost, at most and until its heartbeats are known.
        broken: the same once its connection has broken.
        hang: seconds that a peer's event loop may stand still.
        greet_every: seconds between two hellos to a peer that has not welcomed us.
        remind: the same to one that has.
        alert: the same at least, however regular its heartbeats have been.
        most: the most peers that are kept; a further one takes the place of one that is gone, or is ignored.
    """

    me: PeerInfo
    silence: float = 3.0
    broken: float = 0.5
    hang: float = 30.0
    greet_every: float = 0.2
    remind: float = 5.0
    alert: float = 0.75
    most: int = 256
    _peers: dict[str, _Peer] = field(default_factory=dict)
    _callers: dict[str, _Caller] = field(default_factory=dict)
    _swept: float | None = None

    def members(self) -> tuple[PeerInfo, ...]:
        """Everybody who is met or linked, this node first, then by name."""
        others = (peer.info for _, peer in sorted(self._peers.items()) if peer.state in _LIVING)
        return (self.me, *others)

    def linked(self) -> dict[str, PeerInfo]:
        """The peers to and from which both directions are proven, by name in sorted order."""
        return {name: peer.info for name, peer in sorted(self._peers.items()) if peer.state is PeerState.LINKED}

    def lost_but_connected(self) -> tuple[str, ...]:
        """The lost whose connection still stands: what is said to all is still kept for them on the way."""
        return tuple(
            name for name, peer in sorted(self._peers.items()) if peer.state is PeerState.LOST and not peer.broken
        )

    def state(self, name: str) -> PeerState | None:
        """How far a peer has come; None for one never met."""
        peer = self._peers.get(name)
        return peer.state if peer else None

    def incarnation(self, name: str) -> int | None:
        """The latest incarnation of a peer, whatever has become of it; None for one never met."""
        peer = self._peers.get(name)
        return peer.info.incarnation if peer else None

    def is_current(self, name: str, incarnation: int) -> bool:
        """Whether this is the living incarnation of a peer that we know."""
        peer = self._peers.get(name)
        return peer is not None and peer.info.incarnation == incarnation and peer.state in _LIVING

    def discover(self, infos: Iterable[PeerInfo], now: float) -> Iterator[Outcome]:
        """These peers exist, somebody says; connects to the new ones and to new incarnations of known ones."""
        for info in infos:
            yield from self._meet(info, now)

    def _meet(self, info: PeerInfo, now: float) -> Iterator[Outcome]:
        known = self._peers.get(info.name)
        if info.name == self.me.name or (known is not None and info.incarnation <= known.info.incarnation):
            return
        if known is not None:
            yield from self._drop(known, "came back as a new incarnation", left=False)
            yield from self._forget(known)
        elif len(self._peers) >= self.most:
            gone = [peer for peer in self._peers.values() if peer.state not in _LIVING]
            if not gone:
                return
            yield from self._forget(min(gone, key=lambda peer: (peer.state is PeerState.LOST, peer.seen)))
        self._peers[info.name] = _Peer(info, seen=now, moved=now, arrivals=FailureDetector(self.alert, self.silence))
        yield from (ConnectTo(info.address, info.name), ConnectTo(info.heartbeat_address, info.name))

    def join_request(self, name: str, incarnation: int, address: str, now: float) -> Iterator[Outcome]:
        """Somebody has subscribed here, and from now on hears us: call back, and greet."""
        known = self._peers.get(name)
        if name == self.me.name or (known is not None and incarnation < known.info.incarnation):
            return
        peer = self._living(name, incarnation)
        if peer is not None:
            peer.broken, peer.seen, peer.greet_at = False, now, now + self.greet_every
        elif name in self._callers or len(self._callers) < self.most:
            yield from self._dismiss(name, keep=address)
            self._callers[name] = _Caller(incarnation, address, now, now + self.greet_every)
            yield ConnectTo(address, name)
        else:
            return
        yield SendHello(name, incarnation)

    def hello(self, info: PeerInfo, members: Iterable[PeerInfo], now: float) -> Iterator[Outcome]:
        """A peer's hello has come: we hear it, and whom it knows."""
        yield from self.discover([info], now)
        peer = self._living(info.name, info.incarnation)
        if peer is None:
            return
        yield from self._dismiss(info.name)
        if not peer.heard:
            self._introduce(peer, now)
        peer.heard = True
        peer.seen = now
        yield from self._link(peer)
        yield from self.discover(members, now)

    def welcome(self, name: str, incarnation: int, welcomed: int, now: float) -> Iterator[Outcome]:
        """A peer has welcomed an incarnation of us: it hears us."""
        peer = self._living(name, incarnation)
        if peer is not None and welcomed == self.me.incarnation:
            peer.hears = True
            peer.seen = now
            yield from self._link(peer)

    def heartbeat(self, name: str, incarnation: int, tick: int, now: float) -> Iterator[Outcome]:
        """A peer's heartbeat has come, with the progress of its event loop."""
        self._excuse(now)
        peer = self._peers.get(name)
        if peer is None or peer.info.incarnation != incarnation or peer.state is PeerState.LEFT:
            return
        peer.arrivals.record(now)
        moved = tick != peer.tick
        if moved:
            peer.tick, peer.moved = tick, now
        if peer.state is not PeerState.LOST:
            peer.seen = now
        elif moved:
            peer.state, peer.seen, peer.hears, peer.broken = PeerState.KNOWN, now, False, False
            peer.greet_at = now + self.greet_every
            yield SendHello(name, incarnation)

    def connection_lost(self, name: str, incarnation: int) -> Iterator[Outcome]:
        """A peer's connection to us has broken: be quicker to lose it, unless it knocks again."""
        caller = self._callers.get(name)
        if caller is not None and caller.incarnation == incarnation:
            yield from self._dismiss(name)
        peer = self._peers.get(name)
        if peer is not None and peer.info.incarnation == incarnation:
            peer.broken = True

    def quarantine(self, name: str, reason: str) -> Iterator[Outcome]:
        """A peer is not listened to for a while: as good as lost, until it is heard again."""
        peer = self._peers.get(name)
        if peer is not None:
            yield from self._drop(peer, reason, left=False)

    def goodbye(self, name: str, incarnation: int, reason: str) -> Iterator[Outcome]:
        """A peer leaves."""
        peer = self._living(name, incarnation)
        if peer is not None:
            yield from self._drop(peer, reason, left=True)
            yield from self._release(peer.info.address, peer.info.heartbeat_address)

    def sweep(self, now: float) -> Iterator[Outcome]:
        """What the mere passing of time brings: hellos that are due again, and losses. To be called often."""
        self._excuse(now)
        yield from self._sweep_callers(now)
        for name, peer in list(self._peers.items()):
            if peer.state not in _LIVING:
                continue
            reason = self._loss(peer, now)
            if reason:
                yield from self._drop(peer, reason, left=False)
            elif now >= peer.greet_at:
                peer.greet_at = now + (self.remind if peer.hears else self.greet_every)
                yield SendHello(name, peer.info.incarnation)

    def _sweep_callers(self, now: float) -> Iterator[Outcome]:
        for name, caller in list(self._callers.items()):
            if now - caller.since > JOIN_REQUEST_TIMEOUT:
                yield from self._dismiss(name)
            elif now >= caller.greet_at:
                caller.greet_at = now + self.greet_every
                yield SendHello(name, caller.incarnation)

    def _living(self, name: str, incarnation: int) -> _Peer | None:
        return self._peers[name] if self.is_current(name, incarnation) else None

    def _introduce(self, newcomer: _Peer, now: float) -> None:
        """Everybody else should hear of a newcomer: their hello is due again."""
        for peer in self._peers.values():
            if peer is not newcomer:
                peer.greet_at = min(peer.greet_at, now)

    def _link(self, peer: _Peer) -> Iterator[Outcome]:
        if peer.heard and peer.hears and peer.state is PeerState.KNOWN:
            peer.state = PeerState.LINKED
            yield PeerLinked(peer.info)

    def _loss(self, peer: _Peer, now: float) -> str:
        silent = now - peer.seen
        if peer.broken and silent > self.broken:
            return f"its connection broke and it was silent for {silent:.1f} s"
        if silent > peer.arrivals.timeout:
            return f"silent for {silent:.1f} s"
        if peer.state is PeerState.LINKED and now - peer.moved > self.hang:
            return f"its event loop has stood still for {now - peer.moved:.0f} s"
        return ""

    def _excuse(self, now: float) -> None:
        """Time in which this node itself stood still (it was stopped or blocked) is not held against its peers."""
        stood = now - self._swept if self._swept is not None else 0.0
        self._swept = now
        if stood > self.greet_every:
            for peer in self._peers.values():
                peer.seen, peer.moved = min(now, peer.seen + stood), min(now, peer.moved + stood)
                peer.arrivals.discount_pause(stood)

    def _dismiss(self, name: str, keep: str = "") -> Iterator[Outcome]:
        """Forgets a caller, and hears its address no more unless it is `keep` or a peer's."""
        caller = self._callers.pop(name, None)
        if caller is not None and caller.address != keep:
            yield from self._release(caller.address)

    def _forget(self, peer: _Peer) -> Iterator[Outcome]:
        del self._peers[peer.info.name]
        yield from self._release(peer.info.address, peer.info.heartbeat_address)

    def _release(self, *addresses: str) -> Iterator[Outcome]:
        """Disconnects addresses at which no peer is that may still be heard of."""
        peers = [peer.info for peer in self._peers.values() if peer.state is not PeerState.LEFT]
        used = {address for info in peers for address in (info.address, info.heartbeat_address)}
        yield from (DisconnectFrom(address) for address in addresses if address not in used)

    def _drop(self, peer: _Peer, reason: str, *, left: bool) -> Iterator[Outcome]:
        if peer.state in _LIVING:
            peer.state = PeerState.LEFT if left else PeerState.LOST
            yield PeerDeparted(peer.info, reason, left)
