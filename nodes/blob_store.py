"""Large pieces of data between peers: whoever has them keeps them under a key, whoever wants them fetches them.

The receiver pulls (`protocol.chunks` decides what it asks of whom), so a slow peer is never flooded and the event
loop never has more than a piece to do at a time. Memory is bounded at both ends:

- receiving: at most `TRANSFERS` transfers run at a time, the others wait for their turn. Each has asked for at most
  `WINDOW` bytes, and has one buffer of the size that its caller named, at most `LARGEST`. A piece that was not asked
  for is dropped and counted ("unasked") before its bytes are looked at.
- serving: what is kept is kept once; pieces leave as views of it. Of these at most `SERVED` bytes wait in the
  queues towards any one peer, however often it asks; a Want beyond that, or for a piece that still waits there, is
  dropped and counted ("unserved"). Pieces below 64 KiB are copied by the transport instead, whose own queue of
  `HIGH_WATER` messages a peer bounds these.

What `keep` is given is bounded by whoever gives it. Refuses to know what the bytes mean: nothing here checks that
they are those that the key was made from; the caller does.
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
from protocol.codec import Buffer, Envelope
from protocol.messages import Chunk, ChunkRequest, ChunkUnavailable, Message
from protocol.messages.presence import PeerInfo

log = logging.getLogger(__name__)

MAX_TRANSFERS = 8
"""Transfers of one receiver that run at the same time."""

MAX_BLOB_BYTES = 1 << 30
"""Bytes of the largest data that is fetched."""

MAX_QUEUED_BYTES = MAX_TRANSFERS * WINDOW
"""Bytes that wait for one peer at most: all that an honest one has asked for."""

with warnings.catch_warnings(action="ignore"):  # torch warns once a program that what is kept is read-only: here
    torch.frombuffer(b"-", dtype=torch.uint8)


@dataclass
class _Transfer:
    """One fetch that is under way or waits for its turn, and everybody who waits for it."""

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
            ChunkRequest: self._want,
            Chunk: self._chunk,
            ChunkUnavailable: self._lacking,
        }

    def keep(self, key: str, data: Buffer) -> None:
        """Serves this data to whoever asks for it, until it is dropped as often as it was kept.

        It is not copied: never write to it again.

        Args:
            key: 64 lower-case hexadecimal digits; the same key always means the same bytes.
            data: any number of bytes.

        Raises:
            ValueError: this is no key.
        """
        _check_key(key)
        self._kept[key] = memoryview(data).toreadonly()
        self._reference_counts[key] += 1

    def drop(self, key: str) -> None:
        """Undoes one `keep`; after the last it is served no more. Nothing happens where it is not kept.

        Pieces that are on their way stay in memory until they have left.
        """
        self._reference_counts[key] -= 1
        if self._reference_counts[key] <= 0:
            del self._reference_counts[key]
            self._kept.pop(key, None)

    def has(self, key: str) -> bool:
        """Whether it is kept here."""
        return key in self._kept

    async def fetch(self, key: str, size: int, holders: Sequence[str]) -> memoryview:
        """The data under a key, from here or from whichever holder gives it. Two fetches at a time share one transfer.

        It is not kept by itself, and not checked against the key.

        Args:
            key: 64 lower-case hexadecimal digits.
            size: its number of bytes; memory for them is taken when its turn has come.
            holders: names of peers that have it, in the order in which they should be asked.

        Returns:
            (size,) bytes, read-only; shared with everybody who fetched them at the same time.

        Raises:
            BlobUnavailable: every holder lacks it or is lost, no chunk of it came for
                `protocol.chunks.FETCH_TIMEOUT` seconds, or it is larger than `MAX_BLOB_BYTES`.
            ValueError: this is no key.
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
                self._follow(transfer, transfer.fetch.holder_available(peer.name, self._now()))

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Another holder is asked instead."""
        self._queued.pop(peer.name, None)
        for transfer in self._under_way():
            if transfer.fetch is not None:
                why = f"{'left' if left else 'lost'}: {reason}"
                self._follow(transfer, transfer.fetch.holder_lost(peer.name, why, self._now()))

    def _join(self, key: str, size: int, holders: Sequence[str]) -> _Transfer:
        """The transfer of this data, which may be under way already and now knows these holders too."""
        transfer = self._transfers.get((key, size))
        if transfer is None:
            done = asyncio.get_running_loop().create_future()
            transfer = self._transfers[key, size] = _Transfer(key, size, dict.fromkeys(holders), done)
            self._waiting.append(transfer)
            self._next()
            return transfer
        new = [name for name in holders if name not in transfer.holders]
        transfer.holders.update(dict.fromkeys(new))
        if transfer.fetch is not None:
            self._introduce(transfer, transfer.fetch, new)
        return transfer

    def _next(self) -> None:
        """Begins those whose turn has come."""
        while self._waiting and self._running < MAX_TRANSFERS:
            transfer = self._waiting.popleft()
            self._running += 1
            transfer.fetch = BlobFetch(
                transfer.size, transfer.holders, self._now(), patience=self._node.spec.timing.repair
            )
            transfer.buffer = torch.empty(transfer.size, dtype=torch.uint8).numpy().data
            self._introduce(transfer, transfer.fetch, list(transfer.holders))
            self._follow(transfer, transfer.fetch.start(self._now()))
            if not transfer.done.done():
                self._look_later(transfer)

    def _introduce(self, transfer: _Transfer, fetch: BlobFetch, holders: Iterable[str]) -> None:
        """Tells a transfer which of its holders can be asked and which are gone; the others are about to be linked."""
        members = {info.name for info in self._node.presence.members()} - {self._node.name}
        linked, now = self._node.presence.linked(), self._now()
        for name in holders:
            if name in linked:
                self._follow(transfer, fetch.holder_available(name, now))
        for name in holders:
            if name not in members:
                why = "is this node itself" if name == self._node.name else "is not there"
                self._follow(transfer, fetch.holder_lost(name, why, now))

    def _follow(self, transfer: _Transfer, outcomes: Iterable[Outcome]) -> None:
        """Does what the transfer's state machine says."""
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
        """Forgets a transfer that is over; the next one's turn has come."""
        if self._transfers.get((transfer.key, transfer.size)) is not transfer:
            return
        del self._transfers[transfer.key, transfer.size]
        if transfer.timer is not None:
            transfer.timer.cancel()
        if transfer.fetch is None:
            self._waiting.remove(transfer)
        else:
            self._running -= 1
            asyncio.get_running_loop().call_soon(self._next)

    def _look_later(self, transfer: _Transfer) -> None:
        every = self._node.spec.timing.repair / 2
        transfer.timer = asyncio.get_running_loop().call_later(every, self._look, transfer)

    def _look(self, transfer: _Transfer) -> None:
        """Time has passed."""
        if transfer.fetch is not None:
            self._follow(transfer, transfer.fetch.tick(self._now()))
        if not transfer.done.done():
            self._look_later(transfer)

    def _want(self, envelope: Envelope, want: ChunkRequest) -> None:
        """A peer asks for a piece: give it, unless as much as may wait for it does so already."""
        if not self._known(envelope):
            return
        kept = self._kept.get(want.key)
        if kept is None or len(kept) != want.total:
            self._node.tell(envelope.sender, ChunkUnavailable(key=want.key, total=want.total))
            return
        queued = self._still_queued(envelope.sender)
        piece = (want.key, want.offset, want.count)
        if piece in queued or want.count + sum(count for _, _, count in queued) > MAX_QUEUED_BYTES:
            self._node.counts["unserved"] += 1
            return
        view = kept[want.offset : want.offset + want.count]  # lives for as long as anybody has to send it
        queued[piece] = weakref.ref(view)
        data = torch.frombuffer(view, dtype=torch.uint8)
        self._node.tell(envelope.sender, Chunk(key=want.key, total=want.total, offset=want.offset, data=data))

    def _still_queued(self, peer: str) -> dict[tuple[str, int, int], weakref.ref[memoryview]]:
        """The pieces that the transport has not sent to this peer yet: whose views are still alive."""
        queued = {piece: view for piece, view in self._queued.get(peer, {}).items() if view() is not None}
        self._queued[peer] = queued
        return queued

    def _chunk(self, envelope: Envelope, chunk: Chunk) -> None:
        """A piece has come: it is put in its place if it was asked for."""
        if not self._known(envelope):
            return
        transfer = self._transfers.get((chunk.key, chunk.total))
        fetch = transfer.fetch if transfer is not None else None
        if transfer is None or fetch is None or not fetch.expects(envelope.sender, chunk.offset, len(chunk.data)):
            self._node.counts["unasked"] += 1
            return
        transfer.buffer[chunk.offset : chunk.offset + len(chunk.data)] = chunk.data.numpy().data
        self._follow(transfer, fetch.arrive(envelope.sender, chunk.offset, self._now()))

    def _lacking(self, envelope: Envelope, lacking: ChunkUnavailable) -> None:
        """A holder does not have it: another is asked."""
        if not self._known(envelope):
            return
        transfer = self._transfers.get((lacking.key, lacking.total))
        if transfer is None or transfer.fetch is None:
            self._node.counts["unasked"] += 1
        else:
            self._follow(transfer, transfer.fetch.holder_lacks(envelope.sender, self._now()))

    def _known(self, envelope: Envelope) -> bool:
        """Whether it was said to us by a living member, in its present life; counted as the node counts the others."""
        known = self._node.presence.is_current(envelope.sender, envelope.incarnation)
        if not known:
            self._node.counts["stranger"] += 1
            log.debug("dropped %s from %s, which is not a living member", envelope.message.kind, envelope.sender)
        return known

    def _under_way(self) -> list[_Transfer]:
        return list(self._transfers.values())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _check_key(key: str) -> None:
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise ValueError(f"{key[:80]!r} is no key: expected 64 lower-case hexadecimal digits")
