"""A blob store serves each peer in turns, no more at once than its share, and at its expense."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fednet.federated import hash_tree
from fednet.federated.hash_tree import HashTree
from nodes.blob_store import MAX_QUEUED_BYTES, Blob, BlobStore
from nodes.blob_stream import leaves_size
from nodes.node import Node
from nodes.transport.memory import MemoryTransport
from protocol.messages import Chunk, ChunkRequest, ChunkUnavailable, Goodbye
from protocol.messages.blobs import MAX_CHUNK, MAX_RANGES
from protocol.security.budget import Cost

Tell = Callable[..., Any]


def data(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - replayable


def of(content: bytes) -> Blob:
    """Data as a blob."""
    size = hash_tree.CHUNK
    tree = HashTree.of(content[offset : offset + size] for offset in range(0, len(content), size))
    return Blob(tree, lambda offset, count: memoryview(content)[offset : offset + count])


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
    async def blocked(cluster: Any, blob: Blob) -> tuple[BlobStore, BlockedTransport]:
        bus = BlockedTransport(cluster.network)
        bus.held = []
        node = Node(cluster.spec("one"), bus)
        store = BlobStore(node)
        await cluster.enter(node, store)
        store.keep(blob)
        return store, bus

    def test_a_flood_of_requests_fills_one_peers_share_only(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            blob = of(bytes(2 * MAX_QUEUED_BYTES))
            one, bus = await self.blocked(cluster, blob)
            greedy, modest = await cluster.forger("g").link(one._node), await cluster.forger("m").link(one._node)
            head = leaves_size(blob.tree.size)
            requests = [
                ChunkRequest(key=blob.tree.root, total=head + blob.tree.size, ranges=((head + offset, MAX_CHUNK),))
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

    def test_what_one_peer_requests_holds_up_nobody(self, tell: Tell) -> None:
        """A chunk of a mebibyte is a turn of the event loop, and the next one is another peer's."""

        async def story(cluster: Any) -> None:
            blob = of(bytes(MAX_QUEUED_BYTES))
            one, bus = await self.blocked(cluster, blob)
            greedy, modest = await cluster.forger("greedy").link(one._node), await cluster.forger("m").link(one._node)
            head = leaves_size(blob.tree.size)
            ranges = tuple((head + index * MAX_CHUNK, MAX_CHUNK) for index in range(MAX_RANGES))
            for forger, some in ((greedy, ranges), (modest, ranges[:1])):
                forger.say("to/one/", ChunkRequest(key=blob.tree.root, total=head + blob.tree.size, ranges=some))
            await asyncio.sleep(0.1)
            receivers = [bytes(frames[0]) for frames in bus.held]
            assert receivers.index(b"to/m/") <= 2
            assert receivers.count(b"to/greedy/") == MAX_RANGES

        tell(story)

    def test_what_is_dropped_meanwhile_is_unavailable(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            content = of(bytes(5 * MAX_CHUNK))

            def read(offset: int, count: int) -> bytes | memoryview:
                one.drop(content.tree.root)
                return content.read(offset, count)

            one, bus = await self.blocked(cluster, blob := Blob(content.tree, read))
            peer = await cluster.forger("p").link(one._node)
            total = leaves_size(blob.tree.size) + blob.tree.size
            ranges = tuple((leaves_size(blob.tree.size) + index * MAX_CHUNK, MAX_CHUNK) for index in range(5))
            peer.say("to/one/", ChunkRequest(key=blob.tree.root, total=total, ranges=ranges))
            await asyncio.sleep(0.1)
            assert len(bus.held) == 1
            assert [each.key for each in peer.messages(ChunkUnavailable)] == [blob.tree.root]

        tell(story)

    def test_nothing_is_sent_to_who_has_left(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            blob = of(bytes(5 * MAX_CHUNK))
            one, bus = await self.blocked(cluster, blob)
            peer = await cluster.forger("p").link(one._node)
            total = leaves_size(blob.tree.size) + blob.tree.size
            ranges = tuple((leaves_size(blob.tree.size) + index * MAX_CHUNK, MAX_CHUNK) for index in range(5))
            peer.say("to/one/", ChunkRequest(key=blob.tree.root, total=total, ranges=ranges))
            peer.say("presence/", Goodbye(reason="done"))
            await asyncio.sleep(0.1)
            assert len(bus.held) < 5

        tell(story)

    def test_each_range_costs_as_much_as_a_request_of_its_own(
        self, tell: Tell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def story(cluster: Any) -> None:
            blob = of(data(3000))
            one, bus = await self.blocked(cluster, blob)
            peer = await cluster.forger("greedy").link(one._node)
            ranges = tuple((32 + offset, 1) for offset in range(MAX_RANGES))
            asked = ChunkRequest(key=blob.tree.root, total=3032, ranges=ranges)
            budget, charged = [True, False], list[tuple[str, Cost, float]]()

            def charge(payer: str, cost: Cost, amount: float) -> bool:
                charged.append((payer, cost, amount))
                return budget.pop(0)

            monkeypatch.setattr(one._node, "charge", charge)
            for _ in range(2):
                peer.say("to/one/", asked)
                await asyncio.sleep(0.1)
                bus.flush()
            await asyncio.sleep(0.1)
            assert charged == [("greedy", Cost.MESSAGES, MAX_RANGES - 1)] * 2, "the first is the message itself"
            assert len(peer.messages(Chunk)) == MAX_RANGES, "beyond its budget nothing is sent"

        tell(story)

    def test_a_chunk_that_still_waits_is_not_sent_twice(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            blob = of(data(3000))
            one, bus = await self.blocked(cluster, blob)
            peer = await cluster.forger().link(one._node)
            request = ChunkRequest(key=blob.tree.root, total=3032, ranges=((1032, 1000),))
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

    def test_leaves_and_data_are_not_sent_in_one_range(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            blob = of(data(3000))
            one, bus = await self.blocked(cluster, blob)
            peer = await cluster.forger().link(one._node)
            peer.say("to/one/", ChunkRequest(key=blob.tree.root, total=3032, ranges=((30, 10),)))
            await asyncio.sleep(0.1)
            assert (bus.held, one._node.counts["unserved"]) == ([], 1)

        tell(story)

    def test_chunks_are_views_of_the_kept_data(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            kept = bytearray(data(3000))
            tree = HashTree.of([bytes(kept)])
            one, bus = await self.blocked(
                cluster, Blob(tree, lambda offset, count: memoryview(kept)[offset : offset + count])
            )
            peer = await cluster.forger().link(one._node)
            peer.say("to/one/", ChunkRequest(key=tree.root, total=3032, ranges=((532, 2000),)))
            await asyncio.sleep(0.1)
            one.drop(tree.root)
            kept[500] ^= 255  # forbidden, and visible for just that reason
            assert bytes(bus.held[0][2]) == bytes(kept[500:2500])

        tell(story)
