"""Large data between peers: a holder keeps it under the root of its hash tree, a receiver fetches it in chunks.

The receiver pulls (`nodes.blob_stream`), so that a slow peer is never flooded and the event loop never has more than a
chunk to do at a time. Memory is bounded at both ends:

- receiving: every stream holds what its window has room for, and verifies each chunk when it arrives. A chunk that was
  not requested is dropped and counted ("unasked") before its bytes are read.
- serving: data is kept once; chunks are sent as views of it, one after the other in turns (`nodes.turns`). At most
  `MAX_QUEUED_BYTES` of them wait in the queues towards any one peer, however often it requests; a request beyond that,
  or for a chunk that still waits there, is dropped and counted ("unserved"). Chunks below 256 KiB are copied by the
  transport instead, whose own high-water mark bounds these.

What is given to `keep` is bounded by the caller. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import logging
import re
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from fednet.federated.hash_tree import MAX_SIZE, HashTree
from nodes.blob_stream import BlobStream, leaves_size
from nodes.capability import Handler
from nodes.errors import BlobUnavailable
from nodes.node import Node
from nodes.turns import Turns
from protocol.chunks import WINDOW
from protocol.codec import Envelope
from protocol.messages import Chunk, ChunkRequest, ChunkUnavailable, Message
from protocol.messages.blobs import MAX_RANGES
from protocol.messages.presence import PeerInfo
from protocol.security.budget import Cost

log = logging.getLogger(__name__)

MAX_QUEUED_BYTES = 64 << 20
"""Bytes that wait for one peer at most: all that an honest one has requested."""

CHUNK_OVERHEAD_BYTES = 64 << 10
"""What a requested range counts for in its turn beside its bytes: the time that looking it up and sending it takes."""

with warnings.catch_warnings(action="ignore"):  # torch warns once in a program about read-only buffers: here
    torch.frombuffer(b"-", dtype=torch.uint8)


@dataclass(frozen=True)
class Blob:
    """Data that peers can fetch.

    Attributes:
        tree: its hash tree; the root is its key.
        read: the `count` bytes from `offset` on, never to be written to again.
    """

    tree: HashTree
    read: Callable[[int, int], bytes | memoryview]

    def range(self, offset: int, count: int) -> memoryview | None:
        """A range of the leaves and the data after them; None if it crosses from one to the other."""
        head = leaves_size(self.tree.size)
        if offset >= head:
            return memoryview(self.read(offset - head, count))[:]
        return memoryview(self.tree.leaves)[offset : offset + count] if offset + count <= head else None


class BlobStore:
    """The capability to keep, serve and fetch data by key.

    Args:
        node: the node that serves and fetches.
    """

    topics: tuple[str, ...] = ()

    def __init__(self, node: Node) -> None:
        self._node = node
        self._kept: dict[str, Blob] = {}
        self._reference_counts: Counter[str] = Counter()
        self._streams: dict[BlobStream, None] = {}
        self._turns = Turns(node.boundary)
        self._queued: dict[str, dict[tuple[str, int, int], weakref.ref[memoryview]]] = {}
        self.handlers: Mapping[type[Message], Handler] = {
            ChunkRequest: self._request,
            Chunk: self._chunk,
            ChunkUnavailable: self._unavailable,
        }

    def keep(self, blob: Blob) -> None:
        """Serves this data to every peer that requests it, until it is dropped as often as it was kept."""
        self._kept[blob.tree.root] = blob
        self._reference_counts[blob.tree.root] += 1

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

    def is_member(self, name: str) -> bool:
        """Whether a peer is there to be asked, or about to be."""
        return any(info.name == name for info in self._node.presence.members())

    def stream(
        self,
        key: str,
        size: int,
        holders: Sequence[str],
        indices: Sequence[int] | None = None,
        *,
        window: int = WINDOW,
        tree: HashTree | None = None,
    ) -> BlobStream:
        """The chunks of the data under a key, from its holders, each checked against the key when it arrives.

        Args:
            key: 64 lower-case hexadecimal digits, the root of its hash tree.
            size: its number of bytes.
            holders: names of peers that have it, in the order in which to ask them.
            indices: of the chunks to fetch, ascending; None for all.
            window: bytes that are requested or wait to be taken, at most; two chunks are always allowed.
            tree: its hash tree, where it is known; else its leaves are fetched first.

        Returns:
            Its chunks; taking one raises `BlobUnavailable` when every holder lacks it, is lost or has sent other
            bytes, or when no holder sent a chunk of it for `protocol.chunks.FETCH_TIMEOUT` seconds.

        Raises:
            BlobUnavailable: it would have no bytes, or more than `MAX_SIZE`.
            ValueError: the key is invalid.
        """
        _check_key(key)
        if not 1 <= size <= MAX_SIZE:
            reason = f"{size} bytes, and from 1 to {MAX_SIZE} are fetched"
            raise BlobUnavailable(key, dict.fromkeys(holders, reason))
        stream = BlobStream(
            key, size, holders,
            request=partial(self._ask, key, leaves_size(size) + size),
            ended=lambda stream: self._streams.pop(stream, None),
            convict=partial(self._convict, key),
            patience=self._node.spec.timing.repair, indices=indices, window=window, tree=tree,
        )  # fmt: skip
        self._streams[stream] = None
        stream.start(self._node.presence.linked(), self._absent(stream.holders))
        return stream

    def linked(self, peer: PeerInfo) -> None:
        """A holder that is linked can be asked."""
        for stream in list(self._streams):
            stream.holder_available(peer.name)

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Another holder is asked instead."""
        self._turns.forget(peer.name)
        self._queued.pop(peer.name, None)
        for stream in list(self._streams):
            stream.holder_lost(peer.name, f"{'left' if left else 'lost'}: {reason}")

    def _absent(self, holders: Sequence[str]) -> dict[str, str]:
        """The holders that cannot be asked; those that are members, but not linked, are about to be."""
        members = {info.name for info in self._node.presence.members()} - {self._node.name}
        reasons = {self._node.name: "is this node itself"}
        return {name: reasons.get(name, "is not there") for name in holders if name not in members}

    def _ask(self, key: str, total: int, holder: str, ranges: Sequence[tuple[int, int]]) -> None:
        for first in range(0, len(ranges), MAX_RANGES):
            some = tuple(ranges[first : first + MAX_RANGES])
            self._node.tell(holder, ChunkRequest(key=key, total=total, ranges=some))

    def _convict(self, key: str, holder: str, what: str) -> None:
        self._node.fault(holder, "false chunk", f"{holder} {what} ({key[:12]})")

    def _request(self, envelope: Envelope, request: ChunkRequest) -> None:
        """Sends the chunks that a peer requests, in turns.

        Each range costs the peer as much as a request of its own.
        """
        name, count = envelope.sender, len(request.ranges)
        if not self._is_current(envelope) or (count > 1 and not self._node.charge(name, Cost.MESSAGES, count - 1)):
            return
        if not self._turns.add(name, self._serve(name, request)):
            self._node.counts["unserved"] += count

    def _serve(self, name: str, request: ChunkRequest) -> Iterator[int]:
        """Sends one chunk after the other, unless as much as may wait for that peer does so already."""
        for offset, count in request.ranges:
            blob = self._kept.get(request.key)
            if blob is None or leaves_size(blob.tree.size) + blob.tree.size != request.total:
                self._node.tell(name, ChunkUnavailable(key=request.key, total=request.total))
                yield CHUNK_OVERHEAD_BYTES
                return
            self._send(name, request, blob, offset, count)
            yield CHUNK_OVERHEAD_BYTES + count

    def _send(self, name: str, request: ChunkRequest, blob: Blob, offset: int, count: int) -> None:
        queued, chunk_id = self._still_queued(name), (request.key, offset, count)
        full = count + sum(each for _, _, each in queued) > MAX_QUEUED_BYTES
        if chunk_id in queued or full or (view := blob.range(offset, count)) is None:
            self._node.counts["unserved"] += 1
            return
        queued[chunk_id] = weakref.ref(view)  # alive until the transport has sent it
        data = torch.frombuffer(view, dtype=torch.uint8)
        self._node.tell(name, Chunk(key=request.key, total=request.total, offset=offset, data=data))

    def _still_queued(self, peer: str) -> dict[tuple[str, int, int], weakref.ref[memoryview]]:
        """The chunks that the transport has not sent to this peer yet: their views are still alive."""
        queued = {chunk_id: view for chunk_id, view in self._queued.get(peer, {}).items() if view() is not None}
        self._queued[peer] = queued
        return queued

    def _chunk(self, envelope: Envelope, chunk: Chunk) -> None:
        """A chunk has come: it goes to the streams that have requested it."""
        if not self._is_current(envelope):
            return
        expected = [
            stream
            for stream in self._of(chunk.key, chunk.total)
            if stream.expects(envelope.sender, chunk.offset, len(chunk.data))
        ]
        if not expected:
            self._node.counts["unasked"] += 1
        for stream in expected:
            stream.arrive(envelope.sender, chunk.offset, chunk.data.numpy().data)

    def _unavailable(self, envelope: Envelope, unavailable: ChunkUnavailable) -> None:
        """A holder does not have it: another one is asked."""
        if not self._is_current(envelope):
            return
        streams = self._of(unavailable.key, unavailable.total)
        if not streams:
            self._node.counts["unasked"] += 1
        for stream in streams:
            stream.holder_lacks(envelope.sender)

    def _of(self, key: str, total: int) -> list[BlobStream]:
        return [each for each in self._streams if each.key == key and leaves_size(each.size) + each.size == total]

    def _is_current(self, envelope: Envelope) -> bool:
        """Whether a message is of a living member's present incarnation; counted like the node's own refusals."""
        current = self._node.presence.is_current(envelope.sender, envelope.incarnation)
        if not current:
            self._node.counts["stranger"] += 1
            log.debug("dropped %s from %s, which is not a living member", envelope.message.kind, envelope.sender)
        return current


def _check_key(key: str) -> None:
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise ValueError(f"invalid key {key[:80]!r}: expected 64 lower-case hexadecimal digits")
