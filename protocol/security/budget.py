"""Budgets: what a peer, or an address, may cost a node, as token buckets.

Everything that others can make a node spend is a *cost* with an allowance: so many units at once, and so many a second
after that, or, where nothing is refilled, so many at a time, given back when they end. What is beyond is refused at the
moment of the charge, before anything is spent on it. The allowances lie beyond what an honest peer uses; who charges
again and again what it does not have is quarantined (`protocol.security.quarantine`).

Refuses to know what is charged and what follows a refusal. Pure: times are seconds of any monotonic clock.

Source: the token bucket of RFC 2697, in its single-rate form.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from protocol.limits import KIB, MIB

MAX_TRACKED = 1024
"""Payers that are tracked for each cost; names are cheap, so the least recently active one is dropped for a new one."""


class Cost(Enum):
    """What others can make a node spend; the value is the unit, in words."""

    MESSAGES = "messages"  # received, subscriptions among them
    RECEIVED = "bytes received"  # before they are decrypted or decoded
    REPEATED = "bytes repeated"  # to whoever has requested them: by retransmission, or said anew
    REPORTS = "bytes of reports"  # that a monitor tells, and a launcher writes down
    JOIN_REQUESTS = "join requests"  # each of which may begin an epoch of the group key
    HANDSHAKES = "handshakes"  # completed with a trusted key
    SUBSCRIPTIONS = "subscriptions"  # and their ends, on the connections that stand
    CONNECTIONS = "connections"  # of one key, that stand
    ACCEPTED = "connections accepted"  # from one address, whoever it is
    DESCRIPTORS = "open connections"  # from one address, whoever it is


@dataclass(frozen=True)
class Allowance:
    """How much of a cost one payer may cause.

    Attributes:
        rate: units a second; 0: nothing is refilled, and what has ended is given back.
        burst: units at once.
    """

    rate: float
    burst: float


ALLOWANCES: Mapping[Cost, Allowance] = {
    Cost.MESSAGES: Allowance(5000, 10_000),
    Cost.RECEIVED: Allowance(2048.0 * MIB, 4096.0 * MIB),
    Cost.REPEATED: Allowance(64.0 * MIB, 256.0 * MIB),
    Cost.REPORTS: Allowance(32.0 * KIB, 8.0 * MIB),
    Cost.JOIN_REQUESTS: Allowance(1, 32),
    Cost.HANDSHAKES: Allowance(4, 128),
    Cost.SUBSCRIPTIONS: Allowance(0, 512),
    Cost.CONNECTIONS: Allowance(0, 32),
    Cost.ACCEPTED: Allowance(64, 1024),
    Cost.DESCRIPTORS: Allowance(0, 1024),
}
"""A peer that reconnects as fast as ZeroMQ does completes two handshakes a second and subscribes to nine topics in
each; a retransmission buffer holds 64 MiB; 256 peers behind one address hold two connections each."""


@dataclass
class TokenBucket:
    """Holds at most `burst` tokens, and fills by `rate` a second."""

    allowance: Allowance
    since: float
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.allowance.burst

    def take(self, amount: float, now: float) -> bool:
        """Takes so many tokens; False, and none taken, if there are fewer. A negative amount is given back."""
        burst = self.allowance.burst
        self.level = min(burst, self.level + self.allowance.rate * (now - self.since))
        self.since = now
        if amount > self.level:
            return False
        self.level = min(burst, self.level - amount)
        return True


class Budget:
    """The buckets of all payers.

    Args:
        allowances: of each of them; a cost that is not among them is free.
    """

    def __init__(self, allowances: Mapping[Cost, Allowance] = ALLOWANCES) -> None:
        self._allowances = allowances
        self._buckets: defaultdict[Cost, OrderedDict[str, TokenBucket]] = defaultdict(OrderedDict)

    def charge(self, payer: str, cost: Cost, amount: float, now: float) -> bool:
        """Takes from the payer's budget; False, and nothing taken, if it does not have as much.

        Args:
            payer: a name or an address.
            cost: what for.
            amount: how many units; negative for what has ended and is given back.
            now: seconds.
        """
        buckets = self._buckets[cost]
        bucket = buckets.get(payer)
        if bucket is None:
            if cost not in self._allowances:
                return True
            bucket = buckets[payer] = TokenBucket(self._allowances[cost], now)
            if len(buckets) > MAX_TRACKED:
                buckets.popitem(last=False)
        buckets.move_to_end(payer)
        return bucket.take(amount, now)
