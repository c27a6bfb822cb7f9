"""Large data between peers: a holder keeps it under a key, a receiver fetches it in chunks.

The receiver pulls (`protocol.chunks` decides which range it requests of whom), so that a slow peer is never flooded and
the event loop never has more than a chunk to do at a time. Memory is bounded at both ends:

- receiving: at most `MAX_TRANSFERS` transfers run at a time, the others wait. Each has requested at most `WINDOW`
  bytes, and has one buffer of the size that its caller named, at most `MAX_BLOB_BYTES`. A chunk that was not requested
  is dropped and counted ("unasked") before its bytes are read.
- serving: data is kept once; chunks are sent as views of it. At most `MAX_QUEUED_BYTES` of them wait in the queues
  towards any one peer, however often it requests; a request beyond that, or for a chunk that still waits there, is
  dropped and counted ("unserved"). Chunks below 64 KiB are copied by the transport instead, whose own high-water mark
  bounds these.

What is given to `keep` is bounded by the caller. Knows nothing of what the bytes mean: the caller checks that they are
those that the key was made from.
"""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from nodes.capability import Handler
from nodes.errors import BlobUnavailable
from nodes.node import Node
from protocol.chunks import WINDOW, BlobFetch, FetchCompleted, FetchFailed, Outcome, RangeRequest
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.messages import Chunk, ChunkRequest, ChunkUnavailable, Message
from protocol.messages.presence import PeerInfo

log = logging.getLogger(__name__)

MAX_TRANSFERS = 8
"""Transfers of one receiver that run at the same time."""

MAX_BLOB_BYTES = 1 << 30
"""Bytes of the largest data that is fetched."""

MAX_QUEUED_BYTES = MAX_TRANSFERS * WINDOW
"""Bytes that wait for one peer at most: all that an honest one has requested."""

with warnings.catch_warnings(action="ignore"):  # torch warns once in a program about read-only buffers: here
    torch.frombuffer(b"-", dtype=torch.uint8)


@dataclass
class _Transfer:
    """A fetch that is under way or waits to begin, and how many callers wait for it."""

    key: str
    size: int
    holders: dict[str, None]
    done: asyncio.Future[memoryview]
    waiters: int = 0
    fetch: BlobFetch | None = None
    buffer: memoryview = field(default_factory=lambda: memoryview(b""))
    timer: asyncio.TimerHandle | None = None


class BlobStore:
    """The capability to keep, serve and fetch data by key.

    Args:
        node: the node that serves and fetches.
    """

    topics: tuple[str, ...] = ()

    def __init__(self, node: Node) -> None:
        self._node = node
        self._kept: dict[str, memoryview] = {}
        self._reference_counts: Counter[str] = Counter()
        self._transfers: dict[tuple[str, int], _Transfer] = {}
        self._waiting: deque[_Transfer] = deque()
        self._running = 0
        self._queued: dict[str, dict[tuple[str, int, int], weakref.ref[memoryview]]] = {}
        self.handlers: Mapping[type[Message], Handler] = {
            ChunkRequest: self._request,
            Chunk: self._chunk,
            ChunkUnavailable: self._unavailable,
        }

    def keep(self, key: str, data: Buffer) -> None:
        """Serves this data to every peer that requests it, until it is dropped as often as it was kept.

        It is not copied: never write to it again.

        Args:
            key: 64 lower-case hexadecimal digits; the same key always means the same bytes.
            data: any number of bytes.

        Raises:
            ValueError: the key is invalid.
        """
        _check_key(key)
        self._kept[key] = memoryview(data).toreadonly()
        self._reference_counts[key] += 1

    def drop(self, key: str) -> None:
        """Undoes one `keep`; after the last it is served no more. Does nothing where it is not kept.

        Chunks that wait to be sent stay in memory until they have left.
        """
        self._reference_counts[key] -= 1
        if self._reference_counts[key] <= 0:
            del self._reference_counts[key]
            self._kept.pop(key, None)

    def has(self, key: str) -> bool:
        """Whether it is kept here."""
        return key in self._kept

    async def fetch(self, key: str, size: int, holders: Sequence[str]) -> memoryview:
        """The data under a key, from here or from a holder. Concurrent fetches of one key share a transfer.

        It is not kept, and not checked against the key.

        Args:
            key: 64 lower-case hexadecimal digits.
            size: its number of bytes; memory for them is allocated when the transfer begins.
            holders: names of peers that have it, in the order in which to ask them.

        Returns:
            (size,) bytes, read-only; shared among concurrent fetches.

        Raises:
            BlobUnavailable: every holder lacks it or is lost, no holder sent a chunk of it for
                `protocol.chunks.FETCH_TIMEOUT` seconds, or it is larger than `MAX_BLOB_BYTES`.
            ValueError: the key is invalid.
        """
        _check_key(key)
        if not 0 <= size <= MAX_BLOB_BYTES:
            raise BlobUnavailable(
                key, dict.fromkeys(holders, f"{size} bytes, and at most {MAX_BLOB_BYTES} are fetched")
            )
        kept = self._kept.get(key)
        if kept is not None and len(kept) == size:
            return kept
        transfer = self._join(key, size, holders)
        transfer.waiters += 1
        try:
            return await asyncio.shield(transfer.done)
        finally:
            transfer.waiters -= 1
            if not transfer.waiters:
                transfer.done.cancel()
                self._end(transfer)

    def linked(self, peer: PeerInfo) -> None:
        """A holder that is linked can be asked."""
        for transfer in self._under_way():
            if transfer.fetch is not None and peer.name in transfer.holders:
                self._apply(transfer, transfer.fetch.holder_available(peer.name, self._now()))

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Another holder is asked instead."""
        self._queued.pop(peer.name, None)
        for transfer in self._under_way():
            if transfer.fetch is not None:
                departure = f"{'left' if left else 'lost'}: {reason}"
                self._apply(transfer, transfer.fetch.holder_lost(peer.name, departure, self._now()))

    def _join(self, key: str, size: int, holders: Sequence[str]) -> _Transfer:
        """The transfer of this data; one that is under way already is told of further holders."""
        transfer = self._transfers.get((key, size))
        if transfer is None:
            done = asyncio.get_running_loop().create_future()
            transfer = self._transfers[key, size] = _Transfer(key, size, dict.fromkeys(holders), done)
            self._waiting.append(transfer)
            self._begin_next()
            return transfer
        new = [name for name in holders if name not in transfer.holders]
        transfer.holders.update(dict.fromkeys(new))
        if transfer.fetch is not None:
            self._add_holders(transfer, transfer.fetch, new)
        return transfer

    def _begin_next(self) -> None:
        """Begins the transfers that may run now."""
        while self._waiting and self._running < MAX_TRANSFERS:
            transfer = self._waiting.popleft()
            self._running += 1
            transfer.fetch = BlobFetch(
                transfer.size, transfer.holders, self._now(), patience=self._node.spec.timing.repair
            )
            transfer.buffer = torch.empty(transfer.size, dtype=torch.uint8).numpy().data
            self._add_holders(transfer, transfer.fetch, list(transfer.holders))
            self._apply(transfer, transfer.fetch.start(self._now()))
            if not transfer.done.done():
                self._schedule_tick(transfer)

    def _add_holders(self, transfer: _Transfer, fetch: BlobFetch, holders: Iterable[str]) -> None:
        """Tells a transfer which of its holders can be asked and which are gone; the others are about to be linked."""
        members = {info.name for info in self._node.presence.members()} - {self._node.name}
        linked, now = self._node.presence.linked(), self._now()
        for name in holders:
            if name in linked:
                self._apply(transfer, fetch.holder_available(name, now))
        for name in holders:
            if name not in members:
                reason = "is this node itself" if name == self._node.name else "is not there"
                self._apply(transfer, fetch.holder_lost(name, reason, now))

    def _apply(self, transfer: _Transfer, outcomes: Iterable[Outcome]) -> None:
        """Carries out what the transfer's state machine has decided."""
        for outcome in outcomes:
            if transfer.done.done():
                return
            match outcome:
                case RangeRequest(holder, offset, count):
                    self._node.tell(
                        holder, ChunkRequest(key=transfer.key, total=transfer.size, offset=offset, count=count)
                    )
                case FetchCompleted():
                    transfer.done.set_result(transfer.buffer.toreadonly())
                    self._end(transfer)
                case FetchFailed(reasons):
                    transfer.done.set_exception(BlobUnavailable(transfer.key, reasons))
                    self._end(transfer)

    def _end(self, transfer: _Transfer) -> None:
        """Forgets a transfer that is over; the next one may begin."""
        if self._transfers.get((transfer.key, transfer.size)) is not transfer:
            return
        del self._transfers[transfer.key, transfer.size]
        if transfer.timer is not None:
            transfer.timer.cancel()
        if transfer.fetch is None:
            self._waiting.remove(transfer)
        else:
            self._running -= 1
            asyncio.get_running_loop().call_soon(self._begin_next)

    def _schedule_tick(self, transfer: _Transfer) -> None:
        interval = self._node.spec.timing.repair / 2
        transfer.timer = asyncio.get_running_loop().call_later(interval, self._tick, transfer)

    def _tick(self, transfer: _Transfer) -> None:
        """Lets a transfer notice that time has passed."""
        if transfer.fetch is not None:
            self._apply(transfer, transfer.fetch.tick(self._now()))
        if not transfer.done.done():
            self._schedule_tick(transfer)

    def _request(self, envelope: Envelope, request: ChunkRequest) -> None:
        """Sends a chunk that a peer requests, unless as much as may wait for that peer does so already."""
        if not self._is_current(envelope):
            return
        kept = self._kept.get(request.key)
        if kept is None or len(kept) != request.total:
            self._node.tell(envelope.sender, ChunkUnavailable(key=request.key, total=request.total))
            return
        queued = self._still_queued(envelope.sender)
        chunk_id = (request.key, request.offset, request.count)
        if chunk_id in queued or request.count + sum(count for _, _, count in queued) > MAX_QUEUED_BYTES:
            self._node.counts["unserved"] += 1
            return
        view = kept[request.offset : request.offset + request.count]  # alive until the transport has sent it
        queued[chunk_id] = weakref.ref(view)
        data = torch.frombuffer(view, dtype=torch.uint8)
        self._node.tell(envelope.sender, Chunk(key=request.key, total=request.total, offset=request.offset, data=data))

    def _still_queued(self, peer: str) -> dict[tuple[str, int, int], weakref.ref[memoryview]]:
        """The chunks that the transport has not sent to this peer yet: their views are still alive."""
        queued = {chunk_id: view for chunk_id, view in self._queued.get(peer, {}).items() if view() is not None}
        self._queued[peer] = queued
        return queued

    def _chunk(self, envelope: Envelope, chunk: Chunk) -> None:
        """A chunk has come: it is put in its place if it was requested."""
        if not self._is_current(envelope):
            return
        transfer = self._transfers.get((chunk.key, chunk.total))
        fetch = transfer.fetch if transfer is not None else None
        if transfer is None or fetch is None or not fetch.expects(envelope.sender, chunk.offset, len(chunk.data)):
            self._node.counts["unasked"] += 1
            return
        transfer.buffer[chunk.offset : chunk.offset + len(chunk.data)] = chunk.data.numpy().data
        self._apply(transfer, fetch.arrive(envelope.sender, chunk.offset, self._now()))

    def _unavailable(self, envelope: Envelope, unavailable: ChunkUnavailable) -> None:
        """A holder does not have it: another one is asked."""
        if not self._is_current(envelope):
            return
        transfer = self._transfers.get((unavailable.key, unavailable.total))
        if transfer is None or transfer.fetch is None:
            self._node.counts["unasked"] += 1
        else:
            self._apply(transfer, transfer.fetch.holder_lacks(envelope.sender, self._now()))

    def _is_current(self, envelope: Envelope) -> bool:
        """Whether a message is of a living member's present incarnation; counted like the node's own refusals."""
        current = self._node.presence.is_current(envelope.sender, envelope.incarnation)
        if not current:
            self._node.counts["stranger"] += 1
            log.debug("dropped %s from %s, which is not a living member", envelope.message.kind, envelope.sender)
        return current

    def _under_way(self) -> list[_Transfer]:
        return list(self._transfers.values())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _check_key(key: str) -> None:
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise ValueError(f"invalid key {key[:80]!r}: expected 64 lower-case hexadecimal digits")
