"""The data path of one attempt: contributions stream in, are reduced chunk by chunk, and the result goes round.

    own chunks of every contribution -> reduced in the order of names -> announced to all -> the others' chunks fetched
    -> some of these reduced again

Member i of n reduces the chunks i, i + n, i + 2n, ... (reduce-scatter), so that all work from the first chunk on; in a
mesh every member reduces all of them. A site holds its own contribution, the result and a window of chunks, however
many members there are. Whatever is announced is served until it is released. Once a member has said what its share is,
every other one reduces some of its chunks again, which a coin of its own chooses: a share that differs is false (as in
Gorbunov et al. 2021, arXiv 2106.11257). Knows nothing of when a round closes (`nodes.rounds.part`) and of how chunks
are combined (`fednet.federated.chunkwise`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from random import SystemRandom
from typing import TypeVar

from fednet.federated.chunkwise import InvalidChunk, check_chunk
from fednet.federated.hash_tree import CHUNK, HashTree, chunk_count, chunk_size
from fednet.federated.packed_state import PackedState
from fednet.federated.state_file import Layout
from fednet.federated.state_storage import Bytes, WritableStorage
from nodes.blob_store import Blob
from nodes.errors import BlobUnavailable
from nodes.rounds.context import RoundContext
from nodes.rounds.reduction_values import ClosedContributions, MemberUnavailable, ShardDiffers
from protocol.machines.statements import AttemptStatements
from protocol.messages.round_values import MAX_LEAVES, BlobRef
from protocol.messages.rounds import FalseShard, RoundOpen, ShardReduced

WINDOW = 32 << 20
"""Bytes of all streams of a member together that are requested or wait, at most; two chunks of each are allowed."""

MAX_JOBS = 2
"""Chunks that wait for the reducer's thread, at most; the next ones stay in their streams."""

log = logging.getLogger(__name__)

_COIN = SystemRandom()
"""Nobody else can foresee which chunks a member reduces again."""

Take = Callable[[], Awaitable[Bytes]]
T = TypeVar("T")


class RoundReduction:
    """One member's data path in one attempt.

    Args:
        context: what it works with.
        statements: what is signed in the attempt.
        opened: the attempt.
        layout: of every contribution.
        shards: what the members say that they have reduced, by name.
        sharded: whether every member reduces a share of the chunks, or all of them.
        audit: the fraction of the others' chunks that is reduced again.

    Attributes:
        layout: of every contribution, and of their aggregate.
    """

    def __init__(
        self,
        context: RoundContext,
        statements: AttemptStatements,
        opened: RoundOpen,
        layout: Layout,
        shards: Mapping[str, asyncio.Future[ShardReduced]],
        *,
        sharded: bool,
        audit: float,
    ) -> None:
        self._context, self._statements, self._opened = context, statements, opened
        self._shards, self._audit, self.layout = shards, audit, layout
        self._owners = opened.members if sharded else (context.name,)
        self._own: PackedState | None = None
        self._contribution, self._result = list[str](), list[str]()  # keys of what is served

    def contribute(self, packed: PackedState) -> tuple[BlobRef, bytes]:
        """Serves our own contribution; returns what it is announced as, and the leaves that are told with it."""
        self._own = packed
        self._offer(Blob(packed.tree, packed.bytes_at), self._contribution)
        return _announced(packed.tree)

    def release_contribution(self) -> None:
        """Serves our own contribution no more."""
        self._own = None
        while self._contribution:
            self._context.blob_store.drop(self._contribution.pop())

    def release(self) -> None:
        """Serves nothing any more."""
        self.release_contribution()
        while self._result:
            self._context.blob_store.drop(self._result.pop())

    async def run(self, closed: ClosedContributions) -> PackedState:
        """The aggregate of these contributions, once all its chunks are here.

        Raises:
            InvalidChunk: a contribution, or a member's share of the result, is not of the layout, or not finite.
            MemberUnavailable: one cannot be had from its contributor, or from any member.
            ShardDiffers: a member's share is false.
        """
        size, run = self.layout.size, self._context.reducer.run
        storage = await run(partial(self._context.store.allocate, size))
        leaves = await self._reduced(closed, self._indices(self._context.name), storage.write)
        self._announce(closed.transcript, storage.data, leaves)
        others = [name for name in self._owners if name != self._context.name and self._indices(name)]
        fetching = [
            asyncio.ensure_future(self._fetch_shard(name, closed.transcript, len(others), storage, leaves))
            for name in others
        ]
        try:
            await asyncio.gather(*fetching)
        finally:
            for task in fetching:
                task.cancel()
        theirs = [index for name in others for index in self._indices(name)]
        await self._audited(closed, {index: leaves[index] for index in theirs if _COIN.random() < self._audit})
        tree = HashTree(size, b"".join(leaves[index] for index in range(len(leaves))))
        return PackedState.laid_out(self.layout, storage, tree)

    async def is_false(self, closed: ClosedContributions, accusation: FalseShard) -> bool | None:
        """Whether a member's share is false in a chunk, as another one says; None where it cannot be told.

        Raises:
            InvalidChunk: a contribution is not of the layout, or not finite.
        """
        owner, reduced, index = accusation.owner, accusation.reduced, accusation.chunk
        indices = self._indices(owner)
        said = self._statements.has_reduced(owner, reduced) and reduced.transcript == closed.transcript
        if not said or index not in indices or reduced.shard is None or owner == self._context.name:
            return False
        if reduced.shard.size != self._shard_size(owner):
            return True
        holders = [name for name in self._opened.members if name != self._context.name]
        shard, position = reduced.shard, indices.index(index)
        stream = self._context.blob_store.stream(shard.digest, shard.size, holders, [position])
        try:
            async with stream:
                await stream.take()
            assert stream.tree is not None  # noqa: S101 - it has given a chunk
            await self._check(closed, {index: stream.tree.leaf(position)})
        except (BlobUnavailable, MemberUnavailable):
            return None
        except ShardDiffers:
            return True
        return False

    async def _audited(self, closed: ClosedContributions, leaves: Mapping[int, bytes]) -> None:
        """Checks chunks of others' shares; not where a contributor is gone, which all have reduced by then."""
        try:
            await self._check(closed, leaves)
        except MemberUnavailable as error:
            if self._context.blob_store.is_member(error.member):
                raise
            log.warning("%d chunks of others' shares are not reduced again: %s is gone", len(leaves), error.member)

    async def _check(self, closed: ClosedContributions, leaves: Mapping[int, bytes]) -> None:
        """Reduces chunks of others' shares again, which have these leaves."""
        right = await self._reduced(closed, sorted(leaves)) if leaves else {}
        for index, found in right.items():
            if found != leaves[index]:
                raise ShardDiffers(self._owners[index % len(self._owners)], index)

    async def _reduced(
        self,
        closed: ClosedContributions,
        indices: Sequence[int],
        write: Callable[[int, memoryview], None] = lambda _offset, _chunk: None,
    ) -> dict[int, bytes]:
        """Reduces some chunks of the contributions; returns their leaves."""
        reduction, size = closed.reduction(self.layout), self.layout.size
        leaves, reduced = dict[int, bytes](), memoryview(bytearray(min(CHUNK, size)))

        def reduce(index: int, parts: Sequence[Bytes]) -> None:
            into = reduced[: chunk_size(size, index)]
            leaves[index] = reduction.reduce(index, parts, into)
            write(index * CHUNK, into)

        if reduction.passes == 2:
            await self._pass(reduction.measure, closed, indices)
        await self._pass(reduce, closed, indices)
        return leaves

    async def _pass(
        self,
        work: Callable[[int, Sequence[Bytes]], None],
        closed: ClosedContributions,
        indices: Sequence[int],
    ) -> None:
        """Works on chunks of every contribution, in the order of the file."""
        async with AsyncExitStack() as stack:
            sources = [await self._source(stack, name, closed, indices) for name in closed.names]

            async def take() -> list[Bytes]:
                return [await source() for source in sources]

            await self._work_on(indices, take, work)

    async def _source(
        self, stack: AsyncExitStack, name: str, closed: ClosedContributions, indices: Sequence[int]
    ) -> Take:
        """What gives some chunks of a contribution, one after another."""
        if name == self._context.name and self._own is not None:
            return partial(_read_next, self._own, iter(indices))
        blobs = closed.contributions[name].blobs
        if [blob.size for blob in blobs] != [self.layout.size]:
            offered = " + ".join(str(blob.size) for blob in blobs)
            raise InvalidChunk(name, f"{offered} bytes were offered, expected {self.layout.size}: use the same model")
        store, window = self._context.blob_store, WINDOW // len(closed.names)
        tree = closed.tree(name)
        stream = store.stream(blobs[0].digest, blobs[0].size, [name], indices, window=window, tree=tree)
        return partial(_take_from, name, (await stack.enter_async_context(stream)).take)

    async def _work_on(
        self, indices: Sequence[int], take: Callable[[], Awaitable[T]], work: Callable[[int, T], None]
    ) -> None:
        """Takes chunk after chunk and works on it on the reducer's thread, while the next ones are on their way."""
        jobs: deque[asyncio.Future[None]] = deque()
        try:
            for index in indices:
                taken = await take()
                if len(jobs) == MAX_JOBS:
                    await jobs[0]
                    jobs.popleft()
                jobs.append(self._context.reducer.run(partial(work, index, taken)))
            await asyncio.gather(*jobs)
        finally:
            for job in jobs:
                job.cancel()

    def _announce(self, transcript: str, file: memoryview, leaves: Mapping[int, bytes]) -> None:
        """Tells all that our share is reduced, and serves it; from now on we need no contribution."""
        shard, told = None, b""
        if len(self._owners) > 1 and (indices := self._indices(self._context.name)):
            shard, told = self._offer_shard(indices, b"".join(leaves[index] for index in indices), file)
        self._context.publish(self._statements.shard(transcript, shard, told))

    async def _fetch_shard(
        self, owner: str, transcript: str, streams: int, storage: WritableStorage, leaves: dict[int, bytes]
    ) -> None:
        """Another member's share of the result; served in turn, should its owner die."""
        reduced, indices = await self._shards[owner], self._indices(owner)
        shard, size = reduced.shard, self._shard_size(owner)
        if reduced.transcript != transcript:
            raise InvalidChunk(owner, "its share of the aggregate is of other contributions")
        if shard is None or shard.size != size:
            raise InvalidChunk(owner, f"its share of the aggregate has not {size} bytes: use the same model")
        holders = [name for name in dict.fromkeys((owner, *self._opened.members)) if name != self._context.name]
        tree, window = HashTree.confirmed(shard.digest, size, reduced.leaves), WINDOW // streams
        stream = self._context.blob_store.stream(shard.digest, size, holders, window=window, tree=tree)

        def place(index: int, chunk: memoryview) -> None:
            check_chunk(self.layout, index, chunk, owner)
            storage.write(index * CHUNK, chunk)

        async with stream:
            await self._work_on(indices, partial(_take_from, owner, stream.take), place)
        assert stream.tree is not None  # noqa: S101 - it has given chunks
        for position, index in enumerate(indices):
            leaves[index] = stream.tree.leaf(position)
        self._offer_shard(indices, stream.tree.leaves, storage.data)

    def _offer_shard(self, indices: Sequence[int], leaves: bytes, file: memoryview) -> tuple[BlobRef, bytes]:
        """Serves some chunks of the result as one blob; returns what it is announced as."""
        tree = HashTree(sum(chunk_size(len(file), index) for index in indices), leaves)
        self._offer(Blob(tree, partial(_read_chunks, file, indices)), self._result)
        return _announced(tree)

    def _offer(self, blob: Blob, keys: list[str]) -> None:
        self._context.blob_store.keep(blob)
        keys.append(blob.tree.root)

    def _shard_size(self, owner: str) -> int:
        """Bytes of a member's share of the result."""
        return sum(chunk_size(self.layout.size, index) for index in self._indices(owner))

    def _indices(self, name: str) -> Sequence[int]:
        """The chunks that a member reduces."""
        return range(self._owners.index(name), chunk_count(self.layout.size), len(self._owners))


def _announced(tree: HashTree) -> tuple[BlobRef, bytes]:
    """What names a blob, and its leaves where they are few."""
    return BlobRef(digest=tree.root, size=tree.size), tree.leaves if len(tree.leaves) <= MAX_LEAVES else b""


def _slice(file: memoryview, index: int) -> memoryview:
    return file[index * CHUNK : (index + 1) * CHUNK]


async def _read_next(packed: PackedState, indices: Iterator[int]) -> Bytes:
    return _slice(packed.file, next(indices))


async def _take_from(name: str, take: Callable[[], Awaitable[memoryview]]) -> memoryview:
    try:
        return await take()
    except BlobUnavailable as error:
        raise MemberUnavailable(name, str(error)) from error


def _read_chunks(file: memoryview, indices: Sequence[int], offset: int, count: int) -> Bytes:
    """A range of some of a file's chunks."""
    position, within = divmod(offset, CHUNK)
    chunk = _slice(file, indices[position])[within : within + count]
    if len(chunk) == count:
        return chunk
    return b"".join((chunk, _read_chunks(file, indices, offset + len(chunk), count - len(chunk))))
