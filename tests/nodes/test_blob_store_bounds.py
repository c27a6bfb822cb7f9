"""A blob store takes and gives no more than its share, and accepts only what it has requested."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch

from nodes import blob_store
from nodes.blob_store import MAX_BLOB_BYTES, MAX_QUEUED_BYTES, MAX_TRANSFERS, BlobStore
from nodes.errors import BlobUnavailable
from nodes.node import Node
from nodes.transport.memory import MemoryTransport
from protocol.chunks import WINDOW, BlobFetch
from protocol.messages import Chunk, ChunkRequest, ChunkUnavailable
from protocol.messages.blobs import MAX_CHUNK

Tell = Callable[..., Any]
SMALL = 1000


def data(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - replayable


def key(number: int) -> str:
    return f"{number:064x}"


def chunk(name: str, size: int, offset: int, part: bytes) -> Chunk:
    return Chunk(key=name, total=size, offset=offset, data=torch.frombuffer(bytearray(part), dtype=torch.uint8))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a thousand bytes, four at a time."""
    monkeypatch.setattr(blob_store, "BlobFetch", partial(BlobFetch, chunk=SMALL, window=4 * SMALL))


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
    return not store._transfers and not store._waiting and not store._running


async def crash(store: BlobStore) -> None:
    bus = store._node._bus
    assert isinstance(bus, MemoryTransport)
    bus.crash()


class TestBounds:
    def test_no_more_than_the_window_is_requested(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            holder = await cluster.forger("holder").link(one._node)
            tasks = [asyncio.create_task(one.fetch(key(n), 3 * WINDOW, ["holder"])) for n in range(2 * MAX_TRANSFERS)]
            await asyncio.sleep(0.2)
            requested: dict[str, int] = {}
            for request in holder.messages(ChunkRequest):
                requested[request.key] = requested.get(request.key, 0) + request.count
            assert requested == {key(n): WINDOW for n in range(MAX_TRANSFERS)}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.1)
            assert idle(one)

        tell(story)

    def test_the_next_transfer_begins_when_one_ends(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = {key(number): data(5 * SMALL, number) for number in range(3 * MAX_TRANSFERS)}
            for name, bytes_ in sent.items():
                one.keep(name, bytes_)
            fetched = asyncio.gather(*(other.fetch(name, 5 * SMALL, ["one"]) for name in sent))
            await asyncio.sleep(0)
            assert (other._running, len(other._waiting)) == (MAX_TRANSFERS, 2 * MAX_TRANSFERS)
            assert list(map(bytes, await fetched)) == list(sent.values())

        tell(story)

    def test_an_invalid_size_allocates_nothing(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, _ = await group(cluster, "one", "other")
            for size in (MAX_BLOB_BYTES + 1, 2**62, -1):
                with pytest.raises(BlobUnavailable, match="at most"):
                    await one.fetch(key(1), size, ["other"])
            assert idle(one)
            for wrong in ("", "AB" * 32, key(1) + "\n"):
                with pytest.raises(ValueError, match="invalid key"):
                    await one.fetch(wrong, 1, ["other"])
                with pytest.raises(ValueError, match="invalid key"):
                    one.keep(wrong, b"")

        tell(story)

    def test_chunks_that_were_not_requested_are_dropped_and_counted(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            holder, other = await cluster.forger("h").link(one._node), await cluster.forger("o").link(one._node)
            send = partial(holder.say, "to/one/")
            send(chunk(key(1), 3, 0, b"bad"))
            send(ChunkUnavailable(key=key(1), total=3))
            fetched = asyncio.create_task(one.fetch(key(1), 1500, ["h", "o"]))
            await asyncio.sleep(0.1)
            other.say("to/one/", chunk(key(1), 1500, 0, b"b" * SMALL))  # a holder, but not asked
            other.say("to/one/", ChunkUnavailable(key=key(1), total=1500))
            for wrong in [(1501, 0, SMALL), (1500, 0, SMALL - 1), (1500, 1, SMALL), (1500, 500, SMALL)]:
                send(chunk(key(1), wrong[0], wrong[1], b"b" * wrong[2]))
            send(chunk(key(2), 1500, 0, b"b" * SMALL))
            send(chunk(key(1), 1500, 0, b"g" * SMALL))
            send(chunk(key(1), 1500, 0, b"b" * SMALL))  # again
            await asyncio.sleep(0.05)
            assert one._node.counts == {"unasked": 9}
            send(chunk(key(1), 1500, SMALL, b"g" * 500))
            assert await fetched == b"g" * 1500

        tell(story)

    def test_only_current_members_are_served_and_accepted(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            one.keep(key(1), b"mine")
            stranger = await cluster.forger("stranger").send_join_request(one._node)
            impostor = await cluster.forger("other", incarnation=2**62).send_join_request(
                one._node, "memory://elsewhere"
            )
            cluster.network.cut(one._node.address, other._node.address)
            fetched = asyncio.create_task(one.fetch(key(2), 4, ["other"]))
            await asyncio.sleep(0.1)
            for forger in (stranger, impostor):
                forger.say("to/one/", ChunkRequest(key=key(1), total=4, offset=0, count=4))
                forger.say("to/one/", chunk(key(2), 4, 0, b"evil"))
                forger.say("to/one/", ChunkUnavailable(key=key(2), total=4))
            await asyncio.sleep(0.1)
            assert not stranger.messages(Chunk) + impostor.messages(Chunk)
            assert one._node.counts["stranger"] == 6
            assert not fetched.done()
            fetched.cancel()

        tell(story)


class BlockedTransport(MemoryTransport):
    """A transport whose queues towards peers do not move: it holds every chunk until `flush`."""

    held: list[Sequence[Any]]

    def publish(self, frames: Sequence[Any]) -> None:
        if len(frames) > 2:
            self.held.append(frames)
        else:
            super().publish(frames)

    def flush(self) -> None:
        for frames in self.held:
            super().publish(frames)
        self.held.clear()
        gc.collect()


class TestServing:
    @staticmethod
    async def blocked(cluster: Any, kept: bytes) -> tuple[BlobStore, BlockedTransport]:
        bus = BlockedTransport(cluster.network)
        bus.held = []
        node = Node(cluster.spec("one"), bus)
        store = BlobStore(node)
        await cluster.enter(node, store)
        store.keep(key(1), kept)
        return store, bus

    def test_a_flood_of_requests_fills_one_peers_share_only(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            kept = bytes(2 * MAX_QUEUED_BYTES)
            one, bus = await self.blocked(cluster, kept)
            greedy, modest = await cluster.forger("g").link(one._node), await cluster.forger("m").link(one._node)
            requests = [
                ChunkRequest(key=key(1), total=len(kept), offset=offset, count=MAX_CHUNK)
                for offset in range(0, 2 * MAX_QUEUED_BYTES, MAX_CHUNK)
            ]
            for request in requests * 3:
                greedy.say("to/one/", request)
            await asyncio.sleep(0.1)
            assert sum(len(frames[2]) for frames in bus.held) == MAX_QUEUED_BYTES
            assert one._node.counts["unserved"] == 3 * len(requests) - MAX_QUEUED_BYTES // MAX_CHUNK
            modest.say("to/one/", requests[0])
            await asyncio.sleep(0.1)
            assert sum(len(frames[2]) for frames in bus.held) == MAX_QUEUED_BYTES + MAX_CHUNK
            bus.flush()
            greedy.say("to/one/", requests[-1])
            await asyncio.sleep(0.1)
            assert len(bus.held) == 1, "chunks that were sent make room"

        tell(story)

    def test_a_chunk_that_still_waits_is_not_sent_twice(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, bus = await self.blocked(cluster, data(3000))
            peer = await cluster.forger().link(one._node)
            request = ChunkRequest(key=key(1), total=3000, offset=1000, count=1000)
            for _ in range(5):
                peer.say("to/one/", request)
            await asyncio.sleep(0.1)
            assert (len(bus.held), one._node.counts["unserved"]) == (1, 4)
            bus.flush()
            peer.say("to/one/", request)
            await asyncio.sleep(0.1)
            bus.flush()
            await asyncio.sleep(0.1)
            assert [bytes(each.data.numpy()) for each in peer.messages(Chunk)] == [data(3000)[1000:2000]] * 2

        tell(story)

    def test_chunks_are_views_of_the_kept_data(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            kept = bytearray(data(3000))
            one, bus = await self.blocked(cluster, kept)  # type: ignore[arg-type]
            peer = await cluster.forger().link(one._node)
            peer.say("to/one/", ChunkRequest(key=key(1), total=3000, offset=500, count=2000))
            await asyncio.sleep(0.1)
            one.drop(key(1))
            kept[500] ^= 255  # forbidden, and visible for just that reason
            assert bytes(bus.held[0][2]) == bytes(kept[500:2500])

        tell(story)

    def test_nothing_is_remembered_of_peers_that_are_gone(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            one.keep(key(1), b"data")
            await other.fetch(key(1), 4, ["one"])
            assert "other" in one._queued
            await crash(other)
            await asyncio.sleep(10)
            assert not one._queued

        tell(story)
