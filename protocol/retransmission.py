"""Sequence numbers, gaps and retransmission: every loss is repaired or reported.

A sender numbers its messages per topic from 1 and keeps the latest ones, bounded in bytes (`Outbox`, the retransmission
buffer). A receiver keeps what it has of each (sender, topic) (`Inbox`, the receive window): a number that is skipped is
missing, and so is one that a heartbeat names and that does not arrive. Missing numbers are requested again with
exponential back-off, until they arrive or the sender reports them as unavailable. Messages are delivered as they
arrive, each once: a retransmitted one is late, never a duplicate.

Pure: knows no sockets and no clock; times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from protocol.frames import Buffer

Frames = Sequence[Buffer]

MAX_MISSING = 1024
"""Missing numbers of one topic; beyond, the oldest are given up."""

MAX_RETRY_INTERVAL = 2.0
"""Seconds between two requests for the same number, at most."""


class Outbox:
    """The retransmission buffer: numbers messages per topic and keeps the latest ones, up to `capacity` bytes."""

    def __init__(self, capacity: int = 64 << 20) -> None:
        self.capacity = capacity
        self.stored_bytes = 0
        self.latest: dict[str, int] = {}
        self._kept: OrderedDict[tuple[str, int], tuple[Frames, int]] = OrderedDict()

    def number(self, topic: str) -> int:
        """The number of the next message of a topic; it is taken by `keep`."""
        return self.latest.get(topic, 0) + 1

    def keep(self, topic: str, number: int, frames: Frames, size: int) -> None:
        """Stores a message of `size` bytes, and drops the oldest ones beyond the capacity."""
        self.latest[topic] = number
        self._kept[topic, number] = (frames, size)
        self.stored_bytes += size
        while self.stored_bytes > self.capacity and self._kept:
            _, (_, dropped) = self._kept.popitem(last=False)
            self.stored_bytes -= dropped

    def forget(self, topic: str) -> None:
        """Drops a topic without subscribers; if it is used again, it is numbered from 1."""
        self.latest.pop(topic, None)
        for key in [key for key in self._kept if key[0] == topic]:
            self.stored_bytes -= self._kept.pop(key)[1]

    def find(self, topic: str, number: int) -> Frames | None:
        """The frames of a message; None if it was dropped or never stored."""
        kept = self._kept.get((topic, number))
        return kept[0] if kept else None


class Baselines:
    """What may be repeated to whom: its own inbox and what is said to all, from the first hello to it on.

    A peer expects the numbers after those of the first hello that it has heard, which are no lower. So nobody has what
    was said before it came, to whomever, and nothing of what was said to an earlier incarnation of its name.
    """

    def __init__(self) -> None:
        self._greeted: dict[str, tuple[int, dict[str, int]]] = {}

    def greet(self, name: str, incarnation: int, latest: Mapping[str, int]) -> None:
        """A hello with these numbers is said to an incarnation of a peer; only the first one counts."""
        if self._greeted.get(name, (None,))[0] != incarnation:
            self._greeted[name] = incarnation, dict(latest)

    def forget(self, name: str) -> None:
        """A peer has left: nothing is repeated to it any more."""
        self._greeted.pop(name, None)

    def first(self, name: str, incarnation: int, topic: str) -> int | None:
        """The first number of a topic that this incarnation may have; None for one that was not greeted."""
        known, latest = self._greeted.get(name, (None, {}))
        return latest.get(topic, 0) + 1 if known == incarnation else None


@dataclass(frozen=True)
class MissingRange:
    """Consecutive numbers of one sender's topic that are to be requested."""

    sender: str
    topic: str
    first: int
    last: int


@dataclass
class _Stream:
    """The window of one sender's topic: all up to `done` are settled, those in `ahead` arrived out of order."""

    done: int
    ahead: set[int] = field(default_factory=set)
    missing: dict[int, tuple[float, float]] = field(default_factory=dict)  # number -> (request at, then wait)

    def settle(self, number: int) -> None:
        self.missing.pop(number, None)
        self.ahead.add(number)
        self._advance()

    def extend(self, upto: int, request_at: float, wait: float) -> int:
        """Marks every number up to `upto` that has not arrived as missing; returns how many are given up for it."""
        given_up = 0
        floor = upto - MAX_MISSING
        if floor > self.done:
            given_up = floor - self.done - sum(number <= floor for number in self.ahead)
            self.done = floor
            self.ahead = {number for number in self.ahead if number > floor}
            self.missing = {number: when for number, when in self.missing.items() if number > floor}
        for number in range(self.done + 1, upto + 1):
            if number not in self.ahead:
                self.missing.setdefault(number, (request_at, wait))
        self._advance()
        return given_up

    def _advance(self) -> None:
        while self.done + 1 in self.ahead:
            self.done += 1
            self.ahead.remove(self.done)


class Inbox:
    """The receive window: what has arrived of every sender's topics, and what is missing.

    Args:
        retry_interval: seconds between the first two requests for the same number; also how long a number that only a
            heartbeat has named may be in flight.

    Attributes:
        given_up: messages that were given up because the sender was more than `MAX_MISSING` ahead.
    """

    def __init__(self, retry_interval: float) -> None:
        self.retry_interval = retry_interval
        self.given_up = 0
        self._streams: dict[str, dict[str, _Stream]] = {}
        self._incarnations: dict[str, int] = {}

    def start(self, sender: str, incarnation: int, latest: dict[str, int]) -> None:
        """Starts the windows of a sender at its `latest` numbers. Idempotent.

        A new incarnation numbers from 1 again: the windows of the one before it are dropped.
        """
        if not self.has_baseline(sender, incarnation):
            self._streams[sender] = {}
            self._incarnations[sender] = incarnation
        for topic, number in latest.items():
            self._streams[sender].setdefault(topic, _Stream(number))

    def forget(self, sender: str) -> None:
        """Drops the windows of a sender."""
        self._streams.pop(sender, None)
        self._incarnations.pop(sender, None)

    def has_baseline(self, sender: str, incarnation: int) -> bool:
        """Whether the windows of this incarnation are started."""
        return self._incarnations.get(sender) == incarnation

    def accept(self, sender: str, topic: str, number: int, now: float) -> bool:
        """Records an arrival; False for a duplicate, or one that was given up: it must be dropped."""
        stream = self._stream(sender, topic)
        if number <= stream.done or number in stream.ahead:
            return False
        if number > stream.done + 1:
            self.given_up += stream.extend(number - 1, now, self.retry_interval)
        stream.settle(number)
        return True

    def note_latest(self, sender: str, topic: str, latest: int, now: float) -> None:
        """A heartbeat says that the sender has published up to `latest`."""
        stream = self._stream(sender, topic)
        if latest > stream.done:
            self.given_up += stream.extend(latest, now + self.retry_interval, self.retry_interval)

    def _stream(self, sender: str, topic: str) -> _Stream:
        """The window of a topic; a new one begins at its first number."""
        streams = self._streams.setdefault(sender, {})
        stream = streams.get(topic)
        if stream is None:
            stream = streams[topic] = _Stream(0)
        return stream

    def unavailable(self, sender: str, topic: str, first: int, last: int) -> list[int]:
        """The sender no longer has these numbers: they are settled; returns those of them that were missing."""
        stream = self._streams.get(sender, {}).get(topic)
        if stream is None:
            return []
        lost = [number for number in sorted(stream.missing) if first <= number <= last]
        for number in lost:
            stream.settle(number)
        return lost

    def due(self, now: float) -> Iterator[MissingRange]:
        """The ranges to request now; each is due again after `retry_interval`, then twice that, and so on."""
        for sender, streams in self._streams.items():
            for topic, stream in streams.items():
                if not stream.missing:
                    continue  # as it is nearly always, and several times a second for each topic of each peer
                due = sorted(number for number, (at, _) in stream.missing.items() if at <= now)
                for number in due:
                    wait = stream.missing[number][1]
                    stream.missing[number] = (now + wait, min(2 * wait, MAX_RETRY_INTERVAL))
                for first, last in consecutive_ranges(due):
                    yield MissingRange(sender, topic, first, last)

    def missing_count(self) -> int:
        """Missing numbers of all senders."""
        return sum(len(stream.missing) for streams in self._streams.values() for stream in streams.values())


def consecutive_ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The ranges of consecutive numbers in a sorted list, as (first, last)."""
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = deque(number for _, number in group)
        yield members[0], members[-1]
