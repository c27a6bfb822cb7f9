"""A blob store takes no more than its share, and accepts only what it has requested."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from fednet.federated import hash_tree
from fednet.federated.hash_tree import MAX_SIZE, HashTree
from nodes import blob_stream
from nodes.blob_store import Blob, BlobStore
from nodes.blob_stream import leaves_size
from nodes.errors import BlobUnavailable
from nodes.node import Node
from nodes.transport.memory import MemoryTransport
from protocol.chunks import CHUNK, WINDOW
from protocol.messages import Chunk, ChunkRequest, ChunkUnavailable

Tell = Callable[..., Any]
SMALL = 1000


def data(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - replayable


def of(content: bytes) -> Blob:
    """Data as a blob."""
    size = hash_tree.CHUNK
    tree = HashTree.of(content[offset : offset + size] for offset in range(0, len(content), size))
    return Blob(tree, lambda offset, count: memoryview(content)[offset : offset + count])


async def fetch(store: BlobStore, blob: Blob, *holders: str) -> bytes:
    """A whole blob."""
    async with store.stream(blob.tree.root, blob.tree.size, list(holders)) as stream:
        return b"".join([bytes(await stream.take()) for _ in range(hash_tree.chunk_count(blob.tree.size))])


def requested(holder: Any) -> list[tuple[int, int]]:
    """The ranges that were requested of a holder."""
    return [some for request in holder.messages(ChunkRequest) for some in request.ranges]


def chunk(name: str, size: int, offset: int, part: bytes) -> Chunk:
    return Chunk(key=name, total=size, offset=offset, data=torch.frombuffer(bytearray(part), dtype=torch.uint8))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a thousand bytes."""
    for module in (hash_tree, blob_stream):
        monkeypatch.setattr(module, "CHUNK", SMALL)


async def start(cluster: Any, name: str, *join: str) -> BlobStore:
    """A node with a blob store and nothing else."""
    spec = cluster.spec(name, join=tuple(f"memory://{other}" for other in join))
    node = Node(spec, cluster.network.bus())
    store = BlobStore(node)
    await cluster.enter(node, store)
    return store


async def group(cluster: Any, *names: str) -> list[BlobStore]:
    """Nodes that are linked with each other; they join through the first."""
    stores = [await start(cluster, name, *([names[0]] if name != names[0] else [])) for name in names]
    async with asyncio.timeout(20):
        while not all(len(each._node.presence.linked()) == len(stores) - 1 for each in stores):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    return stores


def idle(store: BlobStore) -> bool:
    """Whether nothing is left of any transfer."""
    return not store._streams


async def crash(store: BlobStore) -> None:
    bus = store._node._bus
    assert isinstance(bus, MemoryTransport)
    bus.crash()


class TestBounds:
    @pytest.mark.parametrize("window", [2 * CHUNK, WINDOW])
    def test_no_more_is_requested_than_the_window_until_the_reader_takes(self, tell: Tell, window: int) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            holder = await cluster.forger("holder").link(one._node)
            blob = of(bytes(3 * WINDOW))
            total = blob.tree.size + leaves_size(blob.tree.size)

            async def serve() -> int:
                """Answers what was requested; returns how many ranges have been requested so far."""
                for offset, count in requested(holder):
                    view = blob.range(offset, count)
                    assert view is not None
                    holder.say("to/one/", chunk(blob.tree.root, total, offset, bytes(view)))
                await asyncio.sleep(0.1)
                return len(set(requested(holder)))

            async with one.stream(blob.tree.root, blob.tree.size, ["holder"], window=window) as stream:
                await asyncio.sleep(0.1)
                assert len(requested(holder)) == window // CHUNK
                await serve()
                before = await serve()
                await asyncio.sleep(100)
                assert before == await serve() <= window // CHUNK + 1, "the leaves are checked and make room"
                for _ in range(window // CHUNK // 2):
                    await stream.take()
                assert before < await serve() <= before + window // CHUNK // 2 + 1
            assert idle(one)

        tell(story)

    def test_an_invalid_size_or_key_requests_nothing(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, _ = await group(cluster, "one", "other")
            for size in (MAX_SIZE + 1, 2**62, 0, -1):
                with pytest.raises(BlobUnavailable, match="from 1 to"):
                    one.stream("ab" * 32, size, ["other"])
            for wrong in ("", "AB" * 32, "ab" * 32 + "\n"):
                with pytest.raises(ValueError, match="invalid key"):
                    one.stream(wrong, 1, ["other"])
            assert idle(one)

        tell(story)

    def test_chunks_that_were_not_requested_are_dropped_and_counted(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            holder, other = await cluster.forger("h").link(one._node), await cluster.forger("o").link(one._node)
            blob = of(b"g" * 1500)
            name, send = blob.tree.root, partial(holder.say, "to/one/")
            send(chunk(name, 1563, 0, blob.tree.leaves))
            send(ChunkUnavailable(key=name, total=1563))
            fetched = asyncio.create_task(fetch(one, blob, "h", "o"))
            await asyncio.sleep(0.1)
            other.say("to/one/", chunk(name, 1564, 64, b"b" * SMALL))  # a holder, but not asked
            other.say("to/one/", ChunkUnavailable(key=name, total=1564))
            for total, offset, count in [
                (1565, 64, SMALL),
                (1564, 64, SMALL - 1),
                (1564, 65, SMALL),
                (1564, 500, SMALL),
            ]:
                send(chunk(name, total, offset, b"b" * count))
            send(chunk("ab" * 32, 1564, 64, b"b" * SMALL))
            send(chunk(name, 1564, 0, blob.tree.leaves))
            send(chunk(name, 1564, 64, b"g" * SMALL))
            send(chunk(name, 1564, 64, b"b" * SMALL))  # again
            await asyncio.sleep(0.05)
            assert one._node.counts == {"unasked": 9}
            send(chunk(name, 1564, 64 + SMALL, b"g" * 500))
            assert await fetched == b"g" * 1500

        tell(story)

    def test_only_current_members_are_served_and_accepted(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            mine, theirs = of(b"mine"), of(b"evil")
            one.keep(mine)
            stranger = await cluster.forger("stranger").send_join_request(one._node)
            impostor = await cluster.forger("other", incarnation=2**62).send_join_request(
                one._node, "memory://elsewhere"
            )
            cluster.network.cut(one._node.address, other._node.address)
            fetched = asyncio.create_task(fetch(one, theirs, "other"))
            await asyncio.sleep(0.1)
            for forger in (stranger, impostor):
                forger.say("to/one/", ChunkRequest(key=mine.tree.root, total=36, ranges=((0, 32),)))
                forger.say("to/one/", chunk(theirs.tree.root, 36, 0, theirs.tree.leaves))
                forger.say("to/one/", ChunkUnavailable(key=theirs.tree.root, total=36))
            await asyncio.sleep(0.1)
            assert not stranger.messages(Chunk) + impostor.messages(Chunk)
            assert one._node.counts["stranger"] == 6
            assert not fetched.done()
            fetched.cancel()

        tell(story)

    def test_nothing_is_remembered_of_peers_that_are_gone(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            one.keep(of(b"data"))
            assert await fetch(other, of(b"data"), "one") == b"data"
            assert "other" in one._queued
            await crash(other)
            await asyncio.sleep(10)
            assert not one._queued

        tell(story)
