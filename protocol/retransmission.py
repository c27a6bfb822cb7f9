"""Numbering, gaps and repair: nothing that was published is lost without a word.

A sender numbers its messages per topic from 1 and keeps the latest of them, bounded in bytes (`Outbox`). A
receiver notes what it has of each (sender, topic) (`Inbox`): a number that is skipped is missing, and so is one
that a heartbeat claims and that does not come. Missing numbers are asked for again, ever more rarely, until they
arrive or the sender says that they are gone. Messages are handed on as they come, each once: a
repaired one arrives late, never twice.

Pure: frames and times go in, decisions come out. Knows no sockets and no clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from protocol.tensors import Buffer

Frames = Sequence[Buffer]

MAX_MISSING = 1024
"""A sender that is further ahead than this is not caught up with: the oldest missing numbers are given up."""


MAX_RETRY_INTERVAL = 2.0
"""Seconds between two requests for the same number, at most: a slow link is not choked with repetitions."""


class Outbox:
    """Numbers outgoing messages per topic and remembers the latest ones, up to `capacity` bytes in all."""

    def __init__(self, capacity: int = 64 << 20) -> None:
        self.capacity = capacity
        self.stored_bytes = 0
        self.latest: dict[str, int] = {}
        self._kept: OrderedDict[tuple[str, int], tuple[Frames, int]] = OrderedDict()

    def number(self, topic: str) -> int:
        """The number that the next message of a topic takes; it is used up when the message is kept."""
        return self.latest.get(topic, 0) + 1

    def keep(self, topic: str, number: int, frames: Frames, size: int) -> None:
        """Remembers a message of `size` bytes, and forgets the oldest ones beyond the capacity."""
        self.latest[topic] = number
        self._kept[topic, number] = (frames, size)
        self.stored_bytes += size
        while self.stored_bytes > self.capacity and self._kept:
            _, (_, dropped) = self._kept.popitem(last=False)
            self.stored_bytes -= dropped

    def forget(self, topic: str) -> None:
        """Drops a topic that nobody hears any more; should it be used again, it is numbered from 1."""
        self.latest.pop(topic, None)
        for key in [key for key in self._kept if key[0] == topic]:
            self.stored_bytes -= self._kept.pop(key)[1]

    def find(self, topic: str, number: int) -> Frames | None:
        """The frames of a message, or None when it is gone (or never was)."""
        kept = self._kept.get((topic, number))
        return kept[0] if kept else None


@dataclass(frozen=True)
class MissingRange:
    """Consecutive numbers of one sender's topic that should be asked for (again)."""

    sender: str
    topic: str
    first: int
    last: int


@dataclass
class _Stream:
    """What is known of one sender's topic: everything up to `done` is settled, `ahead` has come early."""

    done: int
    ahead: set[int] = field(default_factory=set)
    missing: dict[int, tuple[float, float]] = field(default_factory=dict)  # number -> (when to ask, then wait)

    def settle(self, number: int) -> None:
        self.missing.pop(number, None)
        self.ahead.add(number)
        self._advance()

    def claim(self, upto: int, ask_at: float, wait: float) -> int:
        """Notes every unseen number up to `upto` as missing; returns how many older ones are given up for it."""
        given_up = 0
        floor = upto - MAX_MISSING
        if floor > self.done:
            given_up = floor - self.done - sum(number <= floor for number in self.ahead)
            self.done = floor
            self.ahead = {number for number in self.ahead if number > floor}
            self.missing = {number: when for number, when in self.missing.items() if number > floor}
        for number in range(self.done + 1, upto + 1):
            if number not in self.ahead:
                self.missing.setdefault(number, (ask_at, wait))
        self._advance()
        return given_up

    def _advance(self) -> None:
        while self.done + 1 in self.ahead:
            self.done += 1
            self.ahead.remove(self.done)


class Inbox:
    """What has come of every sender's topics, and what is missing.

    Args:
        retry_interval: seconds between the first two requests for the same number; also how long a number that only a
            heartbeat has claimed may still be on its way.

    Attributes:
        given_up: how many messages were never received because the sender was too far ahead.
    """

    def __init__(self, patience: float) -> None:
        self.retry_interval = patience
        self.given_up = 0
        self._streams: dict[str, dict[str, _Stream]] = {}
        self._incarnations: dict[str, int] = {}

    def start(self, sender: str, incarnation: int, latest: dict[str, int]) -> None:
        """Begins to listen to a sender: what it published before `latest` is not missed. Idempotent.

        A new incarnation numbers afresh: what is known of the one before it is dropped.
        """
        if not self.has_baseline(sender, incarnation):
            self._streams[sender] = {}
            self._incarnations[sender] = incarnation
        for topic, number in latest.items():
            self._streams[sender].setdefault(topic, _Stream(number))

    def forget(self, sender: str) -> None:
        """Drops everything about a sender that left."""
        self._streams.pop(sender, None)
        self._incarnations.pop(sender, None)

    def has_baseline(self, sender: str, incarnation: int) -> bool:
        """Whether this incarnation's baseline is known; until then it has promised us nothing."""
        return self._incarnations.get(sender) == incarnation

    def accept(self, sender: str, topic: str, number: int, now: float) -> bool:
        """Notes an arrival; False for a duplicate (or one that was given up), which must be dropped."""
        stream = self._streams.setdefault(sender, {}).setdefault(topic, _Stream(0))
        if number <= stream.done or number in stream.ahead:
            return False
        if number > stream.done + 1:
            self.given_up += stream.claim(number - 1, now, self.retry_interval)
        stream.settle(number)
        return True

    def note_latest(self, sender: str, topic: str, latest: int, now: float) -> None:
        """Notes a heartbeat's word that the sender has published up to `latest`."""
        stream = self._streams.setdefault(sender, {}).setdefault(topic, _Stream(0))
        if latest > stream.done:
            self.given_up += stream.claim(latest, now + self.retry_interval, self.retry_interval)

    def unavailable(self, sender: str, topic: str, first: int, last: int) -> list[int]:
        """The sender no longer has these numbers: they are settled; returns those that were really missed."""
        stream = self._streams.get(sender, {}).get(topic)
        if stream is None:
            return []
        lost = [number for number in sorted(stream.missing) if first <= number <= last]
        for number in lost:
            stream.settle(number)
        return lost

    def due(self, now: float) -> Iterator[MissingRange]:
        """What to ask for now; each is due again after `patience`, then twice that, and so on."""
        for sender, streams in self._streams.items():
            for topic, stream in streams.items():
                ripe = sorted(number for number, (at, _) in stream.missing.items() if at <= now)
                for number in ripe:
                    wait = stream.missing[number][1]
                    stream.missing[number] = (now + wait, min(2 * wait, MAX_RETRY_INTERVAL))
                for first, last in consecutive_ranges(ripe):
                    yield MissingRange(sender, topic, first, last)

    def missing_count(self) -> int:
        """How many numbers are missing in all."""
        return sum(len(stream.missing) for streams in self._streams.values() for stream in streams.values())


def consecutive_ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Consecutive runs of sorted numbers, as (first, last)."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = deque(number for _, number in run)
        yield members[0], members[-1]
