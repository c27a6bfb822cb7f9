"""Quarantine: what happens to a peer that breaks the protocol, or exceeds its budget, again and again.

A single fault is an accident; its message is dropped and counted by the caller, and after a while it is forgiven. A
peer that has used up its faults is quarantined: all its messages are dropped for a while, and for twice as long each
time after.

Refuses to know what a fault is and how its culprit is proven (`nodes.inbound_filter`). Pure: times are seconds of any
monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from protocol.security.budget import MAX_TRACKED, Allowance, TokenBucket


@dataclass(frozen=True)
class Leniency:
    """What is forgiven, and for how long it is not.

    Attributes:
        faults: how many in a row lead to quarantine.
        forgiveness: seconds after which one of them expires.
        first: seconds of the first quarantine.
        longest: seconds of the longest; after so long without another the next one is a first one again.
    """

    faults: int = 10
    forgiveness: float = 5.0
    first: float = 10.0
    longest: float = 600.0

    @property
    def allowance(self) -> Allowance:
        """The faults that are forgiven, as a budget."""
        return Allowance(1 / self.forgiveness, self.faults - 1)


@dataclass
class _Record:
    """The faults and quarantines of one peer."""

    faults: TokenBucket
    count: int = 0  # of its faults
    times: int = 0  # how often it was quarantined
    until: float = 0.0  # the end of the present or last quarantine


class Quarantine:
    """The faults and quarantines of all peers.

    Args:
        leniency: towards each of them.
    """

    def __init__(self, leniency: Leniency | None = None) -> None:
        self._leniency = leniency or Leniency()
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._until = 0.0

    def is_active(self, now: float) -> bool:
        """Whether any peer is in quarantine now; otherwise senders need not be looked up."""
        return now < self._until

    def is_quarantined(self, name: str | None, now: float) -> bool:
        """Whether this peer's messages are to be dropped now."""
        record = self._records.get(name) if name is not None else None
        return record is not None and now < record.until

    def record_fault(self, name: str, now: float) -> float | None:
        """Counts a fault; returns the seconds of the quarantine that it starts, or None."""
        record, leniency = self._tracked(name, now), self._leniency
        record.count += 1
        if now < record.until or record.faults.take(1, now):
            return None
        if now > record.until + leniency.longest:
            record.times = 0
        seconds = min(leniency.longest, leniency.first * 2.0**record.times)
        record.times, record.until = record.times + 1, now + seconds
        record.faults = TokenBucket(leniency.allowance, record.until)
        self._until = max(self._until, record.until)
        return seconds

    def faults(self) -> dict[str, int]:
        """How many faults every tracked peer has, those during its quarantines among them."""
        return {name: record.count for name, record in self._records.items() if record.count}

    def _tracked(self, name: str, now: float) -> _Record:
        record = self._records.get(name)
        if record is None:
            record = self._records[name] = _Record(TokenBucket(self._leniency.allowance, now))
            if len(self._records) > MAX_TRACKED:
                self._records.popitem(last=False)
        self._records.move_to_end(name)
        return record
