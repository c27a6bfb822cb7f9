"""The data path of one attempt: contributions stream in, are reduced chunk by chunk, and the result goes round.

    own chunks of every contribution -> reduced in the order of names -> announced to all -> the others' chunks fetched

Member i of n reduces the chunks i, i + n, i + 2n, ... (reduce-scatter), so that all work from the first chunk on; in a
mesh every member reduces all of them. A site holds its own contribution, the result and a window of chunks, however
many members there are. Whatever is announced is served until it is released. Knows nothing of when a round closes
(`nodes.rounds.part`) and of how chunks are combined (`fednet.federated.chunkwise`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

import torch

from fednet.federated.chunkwise import ChunkReduction, InvalidChunk, check_chunk
from fednet.federated.hash_tree import CHUNK, LEAF, HashTree, chunk_count, chunk_size
from fednet.federated.state_file import Layout, PackedState, StateFile
from nodes.blob_store import Blob
from nodes.errors import BlobUnavailable, PeerError
from nodes.rounds.context import RoundContext
from protocol.messages.round_values import BlobRef, ContributionRef
from protocol.messages.rounds import RoundOpen, ShardReduced
from protocol.rounds import round_message

WINDOW = 32 << 20
"""Bytes of all streams of a member together that are requested or wait, at most; two chunks of each are allowed."""

MAX_JOBS = 2
"""Chunks that wait for the reducer's thread, at most; the next ones stay in their streams."""

Bytes = bytes | memoryview
Take = Callable[[], Awaitable[Bytes]]
T = TypeVar("T")


class MemberUnavailable(PeerError):
    """A member is gone, or does not give what it has announced: its contribution, or its share of the result.

    Attributes:
        member: its name.
    """

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(reason)
        self.member = member


class RoundReduction:
    """One member's data path in one attempt.

    Args:
        context: what it works with.
        opened: the attempt.
        layout: of every contribution.
        shards: what the members announce, by name: their share of the result, or None where they have none.
        sharded: whether every member reduces a share of the chunks, or all of them.

    Attributes:
        layout: of every contribution, and of their aggregate.
    """

    def __init__(
        self,
        context: RoundContext,
        opened: RoundOpen,
        layout: Layout,
        shards: Mapping[str, asyncio.Future[BlobRef | None]],
        *,
        sharded: bool,
    ) -> None:
        self._context, self._opened, self._shards, self.layout = context, opened, shards, layout
        self._owners = opened.members if sharded else (context.name,)
        self._own: StateFile | None = None
        self._contribution, self._result = list[str](), list[str]()  # keys of what is served

    async def contribute(self, file: StateFile) -> BlobRef:
        """Serves our own contribution; returns what it is announced as."""
        tree = await self._context.reducer.run(file.tree)
        self._own = file
        self._offer(Blob(tree, file.read), self._contribution)
        return BlobRef(digest=tree.root, size=tree.size)

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

    async def run(self, reduction: ChunkReduction, contributions: Mapping[str, ContributionRef]) -> PackedState:
        """The aggregate of these contributions, once all its chunks are here.

        Raises:
            InvalidChunk: a contribution, or a member's share of the result, is not of the layout, or not finite.
            MemberUnavailable: one cannot be had from its contributor, or from any member.
        """
        size = self.layout.size
        file = torch.empty(size, dtype=torch.uint8).numpy().data
        leaves = dict[int, bytes]()

        def reduce(index: int, parts: Sequence[Bytes]) -> None:
            leaves[index] = reduction.reduce(index, parts, _slice(file, index))

        if reduction.passes == 2:
            await self._pass(reduction.measure, reduction.names, contributions)
        await self._pass(reduce, reduction.names, contributions)
        self._announce(file, leaves)
        others = [name for name in self._owners if name != self._context.name and self._indices(name)]
        fetching = [asyncio.ensure_future(self._fetch_shard(name, len(others), file, leaves)) for name in others]
        try:
            await asyncio.gather(*fetching)
        finally:
            for task in fetching:
                task.cancel()
        tree = HashTree(size, b"".join(leaves[index] for index in range(len(leaves))))
        return PackedState(tree, self.layout, file.toreadonly(), self.layout.views(file))

    async def _pass(
        self,
        work: Callable[[int, Sequence[Bytes]], None],
        names: Sequence[str],
        contributions: Mapping[str, ContributionRef],
    ) -> None:
        """Works on our chunks of every contribution, in the order of the file."""
        indices = self._indices(self._context.name)
        async with AsyncExitStack() as stack:
            sources = [await self._source(stack, name, contributions[name], indices, len(names)) for name in names]

            async def take() -> list[Bytes]:
                return [await source() for source in sources]

            await self._work_on(indices, take, work)

    async def _source(
        self, stack: AsyncExitStack, name: str, contribution: ContributionRef, indices: Sequence[int], streams: int
    ) -> Take:
        """What gives our chunks of a contribution, one after another."""
        if name == self._context.name and self._own is not None:
            return partial(_read_next, self._own, iter(indices))
        blobs = contribution.blobs
        if len(blobs) != 1 or blobs[0].size != self.layout.size:
            offered = " + ".join(str(blob.size) for blob in blobs)
            raise InvalidChunk(name, f"{offered} bytes were offered, expected {self.layout.size}: use the same model")
        store, window = self._context.blob_store, WINDOW // streams
        stream = store.stream(blobs[0].digest, blobs[0].size, [name], indices, window)
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

    def _announce(self, file: memoryview, leaves: Mapping[int, bytes]) -> None:
        """Tells all that our share is reduced, and serves it; from now on we need no contribution."""
        shard = None
        if len(self._owners) > 1 and (indices := self._indices(self._context.name)):
            shard = self._offer_shard(indices, b"".join(leaves[index] for index in indices), file)
        self._context.publish(round_message(ShardReduced, self._opened, shard=shard))

    async def _fetch_shard(self, owner: str, streams: int, file: memoryview, leaves: dict[int, bytes]) -> None:
        """Another member's share of the result; served in turn, should its owner die."""
        shard, indices = await self._shards[owner], self._indices(owner)
        size = sum(chunk_size(self.layout.size, index) for index in indices)
        if shard is None or shard.size != size:
            raise InvalidChunk(owner, f"its share of the aggregate has not {size} bytes: use the same model")
        holders = [name for name in dict.fromkeys((owner, *self._opened.members)) if name != self._context.name]
        stream = self._context.blob_store.stream(shard.digest, size, holders, window=WINDOW // streams)

        def place(index: int, chunk: memoryview) -> None:
            check_chunk(self.layout, index, chunk, owner)
            _slice(file, index)[:] = chunk

        async with stream:
            await self._work_on(indices, partial(_take_from, owner, stream.take), place)
        assert stream.tree is not None  # noqa: S101 - it has given chunks
        for position, index in enumerate(indices):
            leaves[index] = stream.tree.leaves[LEAF * position : LEAF * (position + 1)]
        self._offer_shard(indices, stream.tree.leaves, file)

    def _offer_shard(self, indices: Sequence[int], leaves: bytes, file: memoryview) -> BlobRef:
        """Serves some chunks of the result as one blob."""
        tree = HashTree(sum(chunk_size(len(file), index) for index in indices), leaves)
        self._offer(Blob(tree, partial(_read_chunks, file, indices)), self._result)
        return BlobRef(digest=tree.root, size=tree.size)

    def _offer(self, blob: Blob, keys: list[str]) -> None:
        self._context.blob_store.keep(blob)
        keys.append(blob.tree.root)

    def _indices(self, name: str) -> Sequence[int]:
        """The chunks that a member reduces."""
        return range(self._owners.index(name), chunk_count(self.layout.size), len(self._owners))


def _slice(file: memoryview, index: int) -> memoryview:
    return file[index * CHUNK : (index + 1) * CHUNK]


async def _read_next(file: StateFile, indices: Iterator[int]) -> Bytes:
    index = next(indices)
    return file.read(index * CHUNK, chunk_size(file.layout.size, index))


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
