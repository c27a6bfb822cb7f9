"""One blob, or some of its chunks, on the way from its holders: verified one by one, handed out in order, forgotten.

The leaves of its hash tree come first, unless they are known, and are checked against the key. Every chunk is checked
against its leaf when it arrives, so a holder that sends other bytes is found out at once, named, and another one asked.
The reader takes the chunks in order, and no more are requested than it has room for (`protocol.chunks` decides which is
requested of whom): a reader that waits holds its window and no more. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from fednet.federated.hash_tree import CHUNK, LEAF, HashTree, chunk_count, chunk_size
from nodes.errors import BlobUnavailable
from protocol.chunks import WINDOW, BlobFetch, FetchCompleted, FetchFailed, Outcome, RangeRequest

FALSE_LEAVES = "sent leaves of another blob"
FALSE_CHUNK = "sent other bytes than it was asked for"


def leaves_size(size: int) -> int:
    """Bytes of the leaves of a blob of this size, which travel before it."""
    return LEAF * chunk_count(size)


class BlobStream:
    """The chunks of a blob in order; an async context that requests nothing any more once it is left.

    Args:
        key: the root of the blob's hash tree.
        size: bytes of the blob.
        holders: peers that have it, in the order in which to ask them.
        request: requests ranges (offset, count) of leaves and blob from a holder.
        ended: is called once it requests nothing any more.
        convict: is told of a holder that has sent other bytes, and what it did.
        patience: seconds of silence before the first repetition.
        indices: of the chunks to fetch, ascending; None for all.
        window: bytes that are requested or wait for the reader, at most; two chunks are always allowed.
        tree: the blob's hash tree; None fetches it.

    Attributes:
        tree: the blob's hash tree, once it is known.
    """

    def __init__(
        self,
        key: str,
        size: int,
        holders: Iterable[str],
        *,
        request: Callable[[str, Sequence[tuple[int, int]]], None],
        ended: Callable[[BlobStream], None],
        convict: Callable[[str, str], None],
        patience: float,
        indices: Sequence[int] | None = None,
        window: int = WINDOW,
        tree: HashTree | None = None,
    ) -> None:
        self.key, self.size, self.holders = key, size, tuple(dict.fromkeys(holders))
        self.tree = tree
        self._indices = range(chunk_count(size)) if indices is None else indices
        self._request, self._ended, self._convict = request, ended, convict
        self._head, self._taken, self._over = leaves_size(size), 0, False
        ranges = {} if tree else {0: self._head}
        ranges.update((self._head + index * CHUNK, chunk_size(size, index)) for index in self._indices)
        self._fetch = BlobFetch(ranges, self.holders, now(), window=max(2, window // CHUNK), patience=patience)
        self._early: dict[int, tuple[str, memoryview]] = {}  # chunks that came before the leaves
        self._chunks: dict[int, memoryview] = {}  # by index, verified
        self._reasons: dict[str, str] | None = None
        self._changed = asyncio.Event()
        self._tick_interval = patience / 2
        self._timer: asyncio.TimerHandle | None = None

    def start(self, linked: Iterable[str], absent: dict[str, str]) -> None:
        """Begins; `linked` holders can be asked, `absent` ones not, with the reason, the others are about to be."""
        for name in self.holders:
            if name in linked:
                self._apply(self._fetch.holder_available(name, now()))
        for name in self.holders:
            if name in absent:
                self._apply(self._fetch.holder_lost(name, absent[name], now()))
        self._apply(self._fetch.start(now()))
        if not self._over:
            self._schedule_tick()

    async def take(self) -> memoryview:
        """The next chunk; it stays valid for as long as it is referred to.

        Raises:
            BlobUnavailable: no holder can give it.
            EOFError: there is none any more.
        """
        if self._taken == len(self._indices):
            raise EOFError("every chunk has been taken")
        index = self._indices[self._taken]
        while index not in self._chunks:
            if self._reasons is not None:
                raise BlobUnavailable(self.key, self._reasons)
            self._changed.clear()
            await self._changed.wait()
        self._taken += 1
        chunk = self._chunks.pop(index)
        self._apply(self._fetch.release(now()))
        return chunk

    def expects(self, holder: str, offset: int, count: int) -> bool:
        """Whether an arriving range was requested from this holder and is still missing."""
        return self._fetch.expects(holder, offset, count)

    def arrive(self, holder: str, offset: int, data: memoryview) -> None:
        """An expected range has come."""
        if offset == 0:
            self._take_leaves(holder, bytes(data))
        elif self.tree is None:
            self._early[offset] = holder, data
        elif self.tree.matches(index := (offset - self._head) // CHUNK, data):
            self._chunks[index] = data
            self._apply(self._fetch.arrive(holder, offset, now()))
            self._changed.set()
        else:
            self._refuse(holder, FALSE_CHUNK)

    def holder_available(self, name: str) -> None:
        """A holder is linked."""
        if name in self.holders:
            self._apply(self._fetch.holder_available(name, now()))

    def holder_lost(self, name: str, reason: str) -> None:
        """A holder is gone."""
        self._apply(self._fetch.holder_lost(name, reason, now()))

    def holder_lacks(self, name: str) -> None:
        """A holder says that it does not have it."""
        self._apply(self._fetch.holder_lacks(name, now()))

    def close(self) -> None:
        """Requests nothing any more; may be called twice."""
        if not self._over:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
            self._ended(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_leaves(self, holder: str, leaves: bytes) -> None:
        tree = HashTree(self.size, leaves)
        if tree.root != self.key:
            self._refuse(holder, FALSE_LEAVES)
            return
        self.tree = tree
        self._apply(self._fetch.arrive(holder, 0, now()))
        self._apply(self._fetch.release(now()))
        early, self._early = self._early, {}
        for offset, (sender, data) in early.items():
            if self.expects(sender, offset, len(data)):
                self.arrive(sender, offset, data)

    def _refuse(self, holder: str, what: str) -> None:
        self._convict(holder, what)
        self._apply(self._fetch.holder_lies(holder, what, now()))

    def _apply(self, outcomes: Iterable[Outcome]) -> None:
        """Carries out what the fetch has decided."""
        for outcome in outcomes:
            if self._over:
                return
            match outcome:
                case RangeRequest(holder, ranges):
                    self._request(holder, ranges)
                case FetchCompleted():
                    self.close()
                case FetchFailed(reasons):
                    self._reasons = reasons
                    self._changed.set()
                    self.close()

    def _schedule_tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_interval, self._tick)

    def _tick(self) -> None:
        """Notices that time has passed."""
        self._apply(self._fetch.tick(now()))
        if not self._over:
            self._schedule_tick()


def now() -> float:
    """The loop's time in seconds."""
    return asyncio.get_running_loop().time()
