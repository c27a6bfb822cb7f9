"""The fetch of a blob, or of some of its chunks: which range is requested from which holder, and what again.

The receiver alone decides what is in flight to it (receiver-driven credit): it requests ranges in their order, as many
as fit its window, and more, in one request, once half of it is free. Chunks are not numbered and not
retransmitted; what does not arrive is requested again, from another holder when one died, lacks it, stays silent or has
sent other bytes than were named.

A chunk counts as lost in two cases. It was overtaken: a chunk that was requested later has arrived, and it has not, for
`patience` seconds. Or the holder is silent: nothing has arrived for a time that starts at `patience`, is four times the
pause between the last two arrivals on a slow link, and doubles with every silence.

Pure: knows no bytes, no sockets and no clock; times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from protocol.limits import MIB

CHUNK = MIB
"""Bytes of one request. The fastest of 256 KiB, 512 KiB and 1 MiB, by 16 and 64 MB over loopback tcp; not larger, since
other messages to the same peer queue behind a chunk."""

WINDOW = 8 * MIB
"""Bytes of one fetch in flight, at most, unless its caller gives it less. Twice as much was no faster."""

MAX_RETRY_INTERVAL = 2.0
"""Seconds of silence after which everything in flight is requested again, at most."""

MAX_SILENCES = 3
"""Consecutive silences of one holder after which the next one is asked."""

FETCH_TIMEOUT = 30.0
"""Seconds without a single chunk after which a fetch fails."""


@dataclass(frozen=True)
class RangeRequest:
    """Request these ranges (offset, count) from this holder."""

    holder: str
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class FetchCompleted:
    """Every byte has arrived."""


@dataclass(frozen=True)
class FetchFailed:
    """No holder can serve it; why, by holder."""

    reasons: dict[str, str]


Outcome = RangeRequest | FetchCompleted | FetchFailed


@dataclass
class _InFlight:
    """A chunk that is requested."""

    requested_at: float
    serial: int


class BlobFetch:
    """The fetch of one blob, as its receiver sees it: at most `window` ranges are in flight or not yet released.

    A holder is asked once it is available (linked); until then it is waited for. Of several the first is asked alone,
    until it fails.

    Args:
        ranges: bytes of each range by its offset, in the order in which to request them.
        holders: the nodes that should have it.
        now: seconds of any monotonic clock, as for all events.
        window: ranges in flight or not yet released, at least 1.
        patience: seconds of silence before the first repetition.
        give_up: seconds without a chunk after which the fetch fails.
    """

    def __init__(
        self,
        ranges: Mapping[int, int],
        holders: Iterable[str],
        now: float,
        *,
        window: int = WINDOW // CHUNK,
        patience: float = 0.25,
        give_up: float = FETCH_TIMEOUT,
    ) -> None:
        self.holders = set(holders)
        self._ranges, self._window = ranges, window
        self._patience, self._give_up = patience, give_up
        self._unrequested = deque(ranges)  # offsets of ranges that are not requested
        self._in_flight: dict[int, _InFlight] = {}
        self._unreleased = 0  # ranges that have arrived and still take up room at the receiver
        self._remaining = len(self._unrequested)
        self._available: deque[str] = deque()
        self._ever_asked: set[str] = set()  # holders whose chunks may still arrive
        self._liars: set[str] = set()
        self._reasons: dict[str, str] = {}
        self._repeats = False  # something is to be requested again, without waiting for more room
        self._serial = self._overtaken = 0
        self._wait, self._silences = patience, 0
        self._silent_since = now  # when the present silence began
        self._last_chunk = now  # when the present holder last sent a chunk, or was first asked
        self._progress = now  # when any chunk last arrived
        self._ticked = now

    @property
    def in_flight(self) -> int:
        """Bytes in flight."""
        return sum(self._ranges[offset] for offset in self._in_flight)

    def start(self, now: float) -> Iterator[Outcome]:
        """Starts it: no bytes at all are complete at once, and without any holder it fails."""
        if not self._remaining:
            yield FetchCompleted()
        else:
            yield from self._fail_or_fill(now)

    def holder_available(self, holder: str, now: float) -> Iterator[Outcome]:
        """This holder can be asked; one that was lost or lacked the blob may have it now."""
        if holder in self._liars:
            return
        self.holders.add(holder)
        self._reasons.pop(holder, None)
        if holder not in self._available:
            self._available.append(holder)
        if len(self._available) == 1:
            self._use_next_holder(now)
        yield from self._fill(now)

    def holder_lost(self, holder: str, reason: str, now: float) -> Iterator[Outcome]:
        """This holder cannot be asked any more: it died, left, or lacks the blob."""
        if holder not in self.holders or not self._remaining:
            return
        self._reasons[holder] = reason
        if holder in self._available:
            current = self._available[0] == holder
            self._available.remove(holder)
            if current:
                self._use_next_holder(now)
        yield from self._fail_or_fill(now)

    def holder_lacks(self, holder: str, now: float) -> Iterator[Outcome]:
        """This holder answers that it has no such blob."""
        if holder in self._ever_asked:
            yield from self.holder_lost(holder, "lacks it", now)

    def holder_lies(self, holder: str, reason: str, now: float) -> Iterator[Outcome]:
        """This holder has sent other bytes than were named: it is never asked again."""
        self._liars.add(holder)
        yield from self.holder_lost(holder, reason, now)

    def expects(self, holder: str, offset: int, count: int) -> bool:
        """Whether an arriving chunk was requested from this holder and is still missing; others must be dropped."""
        return holder in self._ever_asked and offset in self._in_flight and count == self._ranges[offset]

    def arrive(self, holder: str, offset: int, now: float) -> Iterator[Outcome]:
        """A chunk that is expected has arrived; until it is released it takes up room."""
        self._overtaken = max(self._overtaken, self._in_flight.pop(offset).serial)
        self._remaining -= 1
        self._unreleased += 1
        self._progress = now
        if self._available and holder == self._available[0]:
            self._wait = max(self._patience, min(MAX_RETRY_INTERVAL, 4 * (now - self._last_chunk)))
            self._last_chunk = self._silent_since = now
            self._silences = 0
        if not self._remaining:
            yield FetchCompleted()

    def release(self, now: float) -> Iterator[Outcome]:
        """The receiver is done with a chunk that has arrived: there is room for another one."""
        self._unreleased -= 1
        yield from self._fill(now)

    def tick(self, now: float) -> Iterator[Outcome]:
        """The outcomes at this time. To be called several times within `patience`."""
        self._discount_own_pause(now)
        if self._unreleased and not self._in_flight:  # the receiver itself is behind: no holder is silent
            self._silent_since = self._last_chunk = self._progress = now
        if not self._remaining:
            return
        if now - self._progress > self._give_up:
            silent = f"gave nothing for {self._give_up:.0f} s"
            yield FetchFailed({name: self._reasons.get(name, silent) for name in sorted(self.holders)})
        elif self._in_flight and now - self._silent_since >= self._wait:
            self._silence(now)
            yield from self._fill(now)
        else:
            self._cancel(
                offset
                for offset, chunk in self._in_flight.items()
                if chunk.serial < self._overtaken and now - chunk.requested_at >= self._patience
            )
            yield from self._fill(now)

    def _silence(self, now: float) -> None:
        """Nothing has arrived for too long: everything in flight is requested again, in the end from another holder."""
        self._silences += 1
        self._silent_since, self._wait = now, min(2 * self._wait, max(MAX_RETRY_INTERVAL, self._patience))
        if self._silences >= MAX_SILENCES and len(self._available) > 1:
            self._available.rotate(-1)
            self._use_next_holder(now)
        else:
            self._cancel(self._in_flight)

    def _use_next_holder(self, now: float) -> None:
        """The first available holder is asked from now on, for all that was in flight."""
        self._cancel(self._in_flight)
        self._last_chunk = self._silent_since = now
        self._wait, self._silences = self._patience, 0

    def _cancel(self, offsets: Iterable[int]) -> None:
        """Cancels requests, so that they are repeated before anything else."""
        for offset in sorted(offsets, reverse=True):
            del self._in_flight[offset]
            self._unrequested.appendleft(offset)
            self._repeats = True

    def _fail_or_fill(self, now: float) -> Iterator[Outcome]:
        if self.holders <= self._reasons.keys():
            yield FetchFailed(dict(sorted(self._reasons.items())))
        else:
            yield from self._fill(now)

    def _fill(self, now: float) -> Iterator[Outcome]:
        """Requests as much as the window allows, once there is room for half of it, or for all that is left."""
        room = min(self._window - len(self._in_flight) - self._unreleased, len(self._unrequested))
        enough = 1 if self._repeats else min(-(-self._window // 2), len(self._unrequested))
        if not self._available or room < max(1, enough):
            return
        holder, ranges = self._available[0], []
        for offset in [self._unrequested.popleft() for _ in range(room)]:
            self._serial += 1
            self._in_flight[offset] = _InFlight(now, self._serial)
            ranges.append((offset, self._ranges[offset]))
        self._ever_asked.add(holder)
        self._repeats = False
        yield RangeRequest(holder, tuple(ranges))

    def _discount_own_pause(self, now: float) -> None:
        """Time in which this node itself stood still does not count as silence."""
        paused, self._ticked = now - self._ticked, now
        if paused > self._patience:
            self._silent_since, self._last_chunk, self._progress = (
                min(now, moment + paused) for moment in (self._silent_since, self._last_chunk, self._progress)
            )
