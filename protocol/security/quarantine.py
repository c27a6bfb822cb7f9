"""Who may be listened to: how much a peer may say, and what becomes of one that breaks the protocol again and again.

Every peer has two allowances, each a bucket that is used up by what it does and fills again with time: one of messages
and bytes, far beyond what an honest peer can say, and one of faults. A single fault is an accident, and is dropped and
counted by whoever notices it. A peer that has used up its allowance of faults is quarantined: nothing of it is heard
for a while, and for twice as long each time after. What it says beyond its rate is a fault too.

Refuses to know what a fault is and how its culprit is proven (`nodes.node`). Pure: times are seconds of any monotonic
clock.

Source: the token bucket of RFC 2697, in its single-rate form.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from protocol.limits import MIB

MAX_TRACKED_PEERS = 1024
"""Peers of whom a book is kept; names are cheap, so the one that was heard of longest ago gives way."""


@dataclass(frozen=True)
class RateLimit:
    """What one peer may do.

    Attributes:
        messages: a second, on average.
        size: bytes a second, on average.
        burst: seconds of both that may come at once.
        faults: how many in a row lead to quarantine.
        forgiveness: seconds after which one of them is forgiven.
        first: seconds of the first quarantine.
        longest: seconds of the longest; after so much good conduct all earlier ones are forgotten.
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
    """Holds at most `depth`, and fills at `rate` a second."""

    depth: float
    rate: float
    since: float
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.depth

    def take(self, amount: float, now: float) -> bool:
        """Takes so much if it is there."""
        self.level = min(self.depth, self.level + self.rate * (now - self.since))
        self.since = now
        if amount > self.level:
            return False
        self.level -= amount
        return True


@dataclass
class _Book:
    """What is noted of one peer."""

    messages: _Bucket
    size: _Bucket
    faults: _Bucket
    times: int = 0  # it was quarantined
    until: float = 0.0  # it is, or was last


class Quarantine:
    """The books of all peers.

    Args:
        allowance: what each of them may do.
    """

    def __init__(self, allowance: RateLimit | None = None) -> None:
        self._allowance = allowance or RateLimit()
        self._books: OrderedDict[str, _Book] = OrderedDict()
        self._until = 0.0

    def is_active(self, now: float) -> bool:
        """Whether anybody is in quarantine now: otherwise no message need be looked into for its sender."""
        return now < self._until

    def is_quarantined(self, name: str | None, now: float) -> bool:
        """Whether nothing of this peer is heard now."""
        book = self._books.get(name) if name is not None else None
        return book is not None and now < book.until

    def within_rate(self, name: str, size: int, now: float) -> bool:
        """Notes a message of `size` bytes; False if the peer has said more than it may."""
        book = self._book(name, now)
        return book.messages.take(1, now) and book.size.take(size, now)

    def record_fault(self, name: str, now: float) -> float | None:
        """Notes a fault; the seconds of the quarantine that begins with it, if one does."""
        book, allowed = self._book(name, now), self._allowance
        if now < book.until or book.faults.take(1, now):
            return None
        if now > book.until + allowed.longest:
            book.times = 0
        seconds = min(allowed.longest, allowed.first * 2.0**book.times)
        book.times, book.until = book.times + 1, now + seconds
        book.faults = _Bucket(allowed.faults - 1, 1 / allowed.forgiveness, book.until)
        self._until = max(self._until, book.until)
        return seconds

    def _book(self, name: str, now: float) -> _Book:
        book = self._books.get(name)
        if book is None:
            allowed = self._allowance
            book = self._books[name] = _Book(
                _Bucket(allowed.messages * allowed.burst, allowed.messages, now),
                _Bucket(allowed.size * allowed.burst, allowed.size, now),
                _Bucket(allowed.faults - 1, 1 / allowed.forgiveness, now),
            )
            if len(self._books) > MAX_TRACKED_PEERS:
                self._books.popitem(last=False)
        self._books.move_to_end(name)
        return book
