"""How a large piece of data is fetched: which range is asked of whom, and what is asked again.

The receiver alone decides what is on its way to it (receiver-driven credit): it asks for `window` bytes in pieces of
`chunk`, and for one more piece whenever one arrives. Nothing is numbered and nobody repairs; what does not come is
asked for again, of another holder when one died, lacks it or stays silent.

A piece counts as lost in two ways. It was overtaken: a piece that was asked for later has come, and it has not, for
`patience` seconds. Or the holder is silent: nothing at all has come for a while that starts at `patience`, is four
times the pause between the last two arrivals on a slow link, and doubles with every silence.

Pure: ranges, names and times go in, decisions come out. Knows no bytes, no sockets and no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from protocol.limits import MIB

CHUNK = MIB
"""Bytes that are asked for at a time. Of 256 KiB, 512 KiB and 1 MiB the fastest, by 16 and 64 MB over loopback tcp; not
larger, since other messages to the same peer wait behind a piece."""

WINDOW = 8 * MIB
"""Bytes that one transfer has asked for and not yet received, at most. Twice as much was no faster."""

MAX_RETRY_INTERVAL = 2.0
"""Seconds of silence after which everything is asked for again, at most."""

MAX_SILENCES = 3
"""Silences of one holder in a row after which another is asked."""

FETCH_TIMEOUT = 30.0
"""Seconds without a single piece after which a transfer has failed."""


@dataclass(frozen=True)
class RangeRequest:
    """Ask this holder for the `count` bytes from `offset` on."""

    holder: str
    offset: int
    count: int


@dataclass(frozen=True)
class FetchCompleted:
    """Every byte has come."""


@dataclass(frozen=True)
class FetchFailed:
    """Nobody is left to ask: why, by holder."""

    reasons: dict[str, str]


Outcome = RangeRequest | FetchCompleted | FetchFailed


@dataclass
class _Asked:
    """A piece that is on its way."""

    at: float
    serial: int


class BlobFetch:
    """One transfer, as its receiver sees it. At most `window` bytes, in whole pieces, are on their way at any time.

    A holder is asked from `offer` on (it is linked); until then it is waited for. Of several that can be asked the
    first is asked alone, until it fails.

    Args:
        size: bytes in all.
        holders: who is said to have them.
        now: seconds of any monotonic clock, as for all events.
        window: bytes asked for and not yet received, at most; one piece is always allowed.
        chunk: bytes of a piece; the last one may be shorter.
        patience: seconds of silence before the first repetition.
        give_up: seconds without a piece after which the transfer is impossible.
    """

    def __init__(
        self,
        size: int,
        holders: Iterable[str],
        now: float,
        *,
        window: int = WINDOW,
        chunk: int = CHUNK,
        patience: float = 0.25,
        give_up: float = FETCH_TIMEOUT,
    ) -> None:
        self.size, self.holders = size, set(holders)
        self._chunk, self._most = chunk, max(1, window // chunk)
        self._patience, self._give_up = patience, give_up
        self._open = deque(range(0, size, chunk))  # offsets of pieces that nobody is asked for
        self._asked: dict[int, _Asked] = {}
        self._left = len(self._open)
        self._ready: deque[str] = deque()
        self._told: set[str] = set()  # who was ever asked, and may still answer
        self._reasons: dict[str, str] = {}
        self._serial = self._overtaken = 0
        self._wait, self._silences = patience, 0
        self._since = now  # when the silence began
        self._heard = now  # when the holder that is asked last gave a piece, or was first asked
        self._progress = now  # when any piece last came
        self._looked = now

    @property
    def outstanding(self) -> int:
        """Bytes that are on their way."""
        return sum(map(self._count, self._asked))

    def start(self, now: float) -> Iterator[Outcome]:
        """Nothing but the beginning: no bytes at all are complete, and nobody at all cannot be asked."""
        if not self._left:
            yield FetchCompleted()
        else:
            yield from self._settle(now)

    def holder_available(self, holder: str, now: float) -> Iterator[Outcome]:
        """This holder can be asked; one that was lost or lacked it may have come back with it."""
        self.holders.add(holder)
        self._reasons.pop(holder, None)
        if holder not in self._ready:
            self._ready.append(holder)
        if len(self._ready) == 1:
            self._turn(now)
        yield from self._fill(now)

    def holder_lost(self, holder: str, reason: str, now: float) -> Iterator[Outcome]:
        """This holder cannot be asked (any more): it died, left, or lacks the data."""
        if holder not in self.holders or not self._left:
            return
        self._reasons[holder] = reason
        if holder in self._ready:
            current = self._ready[0] == holder
            self._ready.remove(holder)
            if current:
                self._turn(now)
        yield from self._settle(now)

    def holder_lacks(self, holder: str, now: float) -> Iterator[Outcome]:
        """This holder says that it has no such data."""
        if holder in self._told:
            yield from self.holder_lost(holder, "lacks it", now)

    def expects(self, holder: str, offset: int, count: int) -> bool:
        """Whether a piece that comes from this holder was asked for and has not come yet; others are dropped."""
        return holder in self._told and offset in self._asked and count == self._count(offset)

    def arrive(self, holder: str, offset: int, now: float) -> Iterator[Outcome]:
        """A piece that it `takes` has come."""
        self._overtaken = max(self._overtaken, self._asked.pop(offset).serial)
        self._left -= 1
        self._progress = now
        if self._ready and holder == self._ready[0]:
            self._wait = max(self._patience, min(MAX_RETRY_INTERVAL, 4 * (now - self._heard)))
            self._heard = self._since = now
            self._silences = 0
        if not self._left:
            yield FetchCompleted()
        else:
            yield from self._fill(now)

    def tick(self, now: float) -> Iterator[Outcome]:
        """What the mere passing of time brings. To be called several times within `patience`."""
        self._excuse(now)
        if not self._left:
            return
        if now - self._progress > self._give_up:
            mute = f"gave nothing for {self._give_up:.0f} s"
            yield FetchFailed({name: self._reasons.get(name, mute) for name in sorted(self.holders)})
        elif self._asked and now - self._since >= self._wait:
            self._silence(now)
            yield from self._fill(now)
        else:
            self._release(
                offset
                for offset, asked in self._asked.items()
                if asked.serial < self._overtaken and now - asked.at >= self._patience
            )
            yield from self._fill(now)

    def _silence(self, now: float) -> None:
        """Nothing has come for too long: everything is asked for again, in the end of somebody else."""
        self._silences += 1
        self._since, self._wait = now, min(2 * self._wait, max(MAX_RETRY_INTERVAL, self._patience))
        if self._silences >= MAX_SILENCES and len(self._ready) > 1:
            self._ready.rotate(-1)
            self._turn(now)
        else:
            self._release(self._asked)

    def _turn(self, now: float) -> None:
        """Another holder is asked from now on, for everything that the one before it owes."""
        self._release(self._asked)
        self._heard = self._since = now
        self._wait, self._silences = self._patience, 0

    def _release(self, offsets: Iterable[int]) -> None:
        """Takes back what was asked for, so that it is asked for again before anything else."""
        for offset in sorted(offsets, reverse=True):
            del self._asked[offset]
            self._open.appendleft(offset)

    def _settle(self, now: float) -> Iterator[Outcome]:
        if self.holders <= self._reasons.keys():
            yield FetchFailed(dict(sorted(self._reasons.items())))
        else:
            yield from self._fill(now)

    def _fill(self, now: float) -> Iterator[Outcome]:
        """Asks for as much as the window allows."""
        while self._ready and self._open and len(self._asked) < self._most:
            offset, holder = self._open.popleft(), self._ready[0]
            self._serial += 1
            self._asked[offset] = _Asked(now, self._serial)
            self._told.add(holder)
            yield RangeRequest(holder, offset, self._count(offset))

    def _count(self, offset: int) -> int:
        return min(self._chunk, self.size - offset)

    def _excuse(self, now: float) -> None:
        """Time in which this node itself stood still is nobody's silence."""
        stood, self._looked = now - self._looked, now
        if stood > self._patience:
            self._since, self._heard, self._progress = (
                min(now, moment + stood) for moment in (self._since, self._heard, self._progress)
            )
