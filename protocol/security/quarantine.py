"""Rate limits and quarantine: how much a peer may send, and what happens to one that breaks the protocol repeatedly.

Every peer has token buckets that are drained by what it does and fill again with time: for messages and bytes, far
beyond what an honest peer sends, and for faults. A single fault is an accident; its message is dropped and counted by
the caller. A peer that has used up its faults is quarantined: all its messages are dropped for a while, and for twice
as long each time after. A message beyond the rate is a fault as well.

Refuses to know what a fault is and how its culprit is proven (`nodes.inbound_filter`). Pure: times are seconds of any
monotonic clock.

Source: the token bucket of RFC 2697, in its single-rate form.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from protocol.limits import MIB

MAX_TRACKED_PEERS = 1024
"""Peers that are tracked; names are cheap, so the least recently active one is dropped for a new one."""


@dataclass(frozen=True)
class RateLimit:
    """The limits of one peer.

    Attributes:
        messages: a second, on average.
        size: bytes a second, on average.
        burst: seconds of both that may come at once.
        faults: how many in a row lead to quarantine.
        forgiveness: seconds after which one of them expires.
        first: seconds of the first quarantine.
        longest: seconds of the longest; after so long without another the next one is a first one again.
    """

    messages: float = 5000.0
    size: float = 2048.0 * MIB
    burst: float = 2.0
    faults: int = 10
    forgiveness: float = 5.0
    first: float = 10.0
    longest: float = 600.0


@dataclass
class _Bucket:
    """A token bucket: holds at most `depth`, and fills at `rate` a second."""

    depth: float
    rate: float
    since: float
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.depth

    def take(self, amount: float, now: float) -> bool:
        """Takes so many tokens; False, and none taken, if there are fewer."""
        self.level = min(self.depth, self.level + self.rate * (now - self.since))
        self.since = now
        if amount > self.level:
            return False
        self.level -= amount
        return True


@dataclass
class _PeerLimits:
    """The buckets and quarantines of one peer."""

    messages: _Bucket
    size: _Bucket
    faults: _Bucket
    count: int = 0  # of its faults
    times: int = 0  # how often it was quarantined
    until: float = 0.0  # the end of the present or last quarantine


class Quarantine:
    """The limits and quarantines of all peers.

    Args:
        limit: of each of them.
    """

    def __init__(self, limit: RateLimit | None = None) -> None:
        self._limit = limit or RateLimit()
        self._peers: OrderedDict[str, _PeerLimits] = OrderedDict()
        self._until = 0.0

    def is_active(self, now: float) -> bool:
        """Whether any peer is in quarantine now; otherwise senders need not be looked up."""
        return now < self._until

    def is_quarantined(self, name: str | None, now: float) -> bool:
        """Whether this peer's messages are to be dropped now."""
        peer = self._peers.get(name) if name is not None else None
        return peer is not None and now < peer.until

    def within_rate(self, name: str, size: int, now: float) -> bool:
        """Counts a message of `size` bytes; False if it is beyond the rate."""
        peer = self._tracked(name, now)
        return peer.messages.take(1, now) and peer.size.take(size, now)

    def record_fault(self, name: str, now: float) -> float | None:
        """Counts a fault; returns the seconds of the quarantine that it starts, or None."""
        peer, limit = self._tracked(name, now), self._limit
        peer.count += 1
        if now < peer.until or peer.faults.take(1, now):
            return None
        if now > peer.until + limit.longest:
            peer.times = 0
        seconds = min(limit.longest, limit.first * 2.0**peer.times)
        peer.times, peer.until = peer.times + 1, now + seconds
        peer.faults = _Bucket(limit.faults - 1, 1 / limit.forgiveness, peer.until)
        self._until = max(self._until, peer.until)
        return seconds

    def faults(self) -> dict[str, int]:
        """How many faults every tracked peer has, those during its quarantines among them."""
        return {name: peer.count for name, peer in self._peers.items() if peer.count}

    def _tracked(self, name: str, now: float) -> _PeerLimits:
        peer = self._peers.get(name)
        if peer is None:
            limit = self._limit
            peer = self._peers[name] = _PeerLimits(
                _Bucket(limit.messages * limit.burst, limit.messages, now),
                _Bucket(limit.size * limit.burst, limit.size, now),
                _Bucket(limit.faults - 1, 1 / limit.forgiveness, now),
            )
            if len(self._peers) > MAX_TRACKED_PEERS:
                self._peers.popitem(last=False)
        self._peers.move_to_end(name)
        return peer
