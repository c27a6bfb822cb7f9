"""Fetching between nodes: data arrives whole through faults of the network and crashes of its holders."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from nodes import blob_store
from nodes.blob_store import BlobStore
from nodes.errors import BlobUnavailable
from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport.memory import Faults, MemoryTransport
from nodes.transport.zmq import ZmqTransport
from protocol.chunks import CHUNK, BlobFetch
from protocol.messages import Chunk, ChunkRequest, Hello, Message, PeerInfo, Welcome

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


class TestFetching:
    @pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, SMALL + 1, 57 * SMALL + 3])
    def test_data_arrives_whole(self, tell: Tell, small: None, size: int) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            one.keep(key(1), data(size))
            got = await other.fetch(key(1), size, ["one"])
            assert (bytes(got), got.readonly, len(got)) == (data(size), True, size)
            assert not other.has(key(1))
            await asyncio.sleep(1)
            assert idle(other)
            assert not one._node.counts
            assert not other._node.counts

        tell(story)

    def test_chunks_of_the_default_size(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(3 * CHUNK + 7)
            one.keep(key(1), bytearray(sent))
            assert await other.fetch(key(1), len(sent), ["one"]) == sent

        tell(story)

    def test_data_that_is_kept_here_is_fetched_from_no_peer(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            one.keep(key(1), b"here")
            assert await one.fetch(key(1), 4, []) == b"here"
            with pytest.raises(BlobUnavailable, match="nobody is said to have it"):
                await one.fetch(key(1), 5, [])  # the same key, but not these bytes
            one.drop(key(1))
            one.drop(key(1))
            assert not one.has(key(1))
            with pytest.raises(BlobUnavailable, match="one: is this node itself"):
                await one.fetch(key(1), 4, ["one"])

        tell(story)

    @pytest.mark.parametrize("seed", range(4))
    def test_faults_of_the_network_only_slow_it_down(self, tell: Tell, small: None, seed: int) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(100 * SMALL, seed)
            one.keep(key(1), sent)
            assert await other.fetch(key(1), len(sent), ["one"]) == sent
            assert other._node.counts["unasked"], "chunks came twice, and were dropped"

        tell(story, Faults(drop=0.3, duplicate=0.2, delay=(0.0, 0.4)), seed)

    def test_two_fetches_of_one_key_share_one_transfer(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(20 * SMALL)
            one.keep(key(1), sent)
            before = cluster.network.carried
            first, second = await asyncio.gather(*(other.fetch(key(1), len(sent), ["one"]) for _ in range(2)))
            assert first.obj is second.obj
            assert first == sent
            assert cluster.network.carried - before < 2 * 20 + 10

        tell(story)

    def test_a_transfer_ends_with_its_last_waiter(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(20 * SMALL)
            one.keep(key(1), sent)
            first, second = (asyncio.create_task(other.fetch(key(1), len(sent), ["one"])) for _ in range(2))
            await asyncio.sleep(0.005)
            first.cancel()
            assert await second == sent
            alone = asyncio.create_task(other.fetch(key(2), 5, ["one"]))
            await asyncio.sleep(0)
            alone.cancel()
            await asyncio.gather(alone, return_exceptions=True)
            await asyncio.sleep(0.001)
            assert idle(other)

        tell(story, Faults(delay=(0.001, 0.002)))

    def test_a_concurrent_fetch_adds_its_holders(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, two, other = await group(cluster, "one", "two", "other")
            two.keep(key(1), b"x" * 20)
            cluster.network.cut(one._node.address, other._node.address)  # it never answers, and is not lost yet
            first = asyncio.create_task(other.fetch(key(1), 20, ["one"]))
            await asyncio.sleep(0.1)
            assert await other.fetch(key(1), 20, ["two"]) == await first == b"x" * 20

        tell(story)


class TestHolders:
    def test_holders_that_lack_it_are_skipped(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, two, other = await group(cluster, "one", "two", "other")
            one.keep(key(1), b"another size under the same key")
            two.keep(key(1), b"right")
            assert await other.fetch(key(1), 5, ["nobody", "one", "other", "two"]) == b"right"
            with pytest.raises(BlobUnavailable) as caught:
                await other.fetch(key(2), 5, ["nobody", "one", "two"])
            assert caught.value.reasons == {"nobody": "is not there", "one": "lacks it", "two": "lacks it"}
            assert str(caught.value).endswith("nobody: is not there, one: lacks it, two: lacks it")
            with pytest.raises(BlobUnavailable, match="nobody is said to have it"):
                await other.fetch(key(2), 5, [])
            await asyncio.sleep(0.1)
            assert idle(other)

        tell(story)

    @pytest.mark.parametrize("goodbye", [True, False])
    def test_another_holder_continues_after_a_crash(self, tell: Tell, small: None, goodbye: bool) -> None:
        async def story(cluster: Any) -> None:
            one, two, other = await group(cluster, "two", "one", "other")
            one, two = two, one
            sent = data(200 * SMALL)
            one.keep(key(1), sent)
            two.keep(key(1), sent)
            fetched = asyncio.create_task(other.fetch(key(1), len(sent), ["one", "two"]))
            await asyncio.sleep(0.1)
            assert not fetched.done()
            if goodbye:
                await one._node.__aexit__(None, None, None)
            else:
                await crash(one)
            assert await fetched == sent

        tell(story, Faults(delay=(0.005, 0.01)))

    def test_the_loss_of_the_last_holder_is_an_error(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            one.keep(key(1), data(200 * SMALL))
            fetched = asyncio.create_task(other.fetch(key(1), 200 * SMALL, ["one"]))
            await asyncio.sleep(0.1)
            await crash(one)
            async with asyncio.timeout(5):
                with pytest.raises(BlobUnavailable, match="one: lost: "):
                    await fetched
            await asyncio.sleep(0.1)
            assert idle(other)

        tell(story, Faults(delay=(0.005, 0.01)))

    def test_a_silent_holder_is_given_up(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            silent = await cluster.forger("silent").link(one._node)
            started = one._now()
            with pytest.raises(BlobUnavailable, match="silent: gave nothing for 30 s"):
                await one.fetch(key(1), 10 * SMALL, ["silent"])
            assert 30 <= one._now() - started < 31
            assert len(silent.messages(ChunkRequest)) < 100

        tell(story)

    def test_a_known_holder_that_is_not_linked_yet_is_waited_for(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            holder = await cluster.forger("holder").send_join_request(one._node)
            greeted = one._node.presence.me.incarnation
            holder.say("to/one/", Hello(peer=holder.me, receiver_incarnation=greeted, members=(), latest={}))
            await asyncio.sleep(0.1)
            fetched = asyncio.create_task(one.fetch(key(1), 5, ["holder"]))
            await asyncio.sleep(1)
            assert not holder.messages(ChunkRequest)
            holder.say("to/one/", Welcome(receiver_incarnation=one._node.presence.me.incarnation))
            await asyncio.sleep(0.1)
            assert holder.messages(ChunkRequest) == [ChunkRequest(key=key(1), total=5, offset=0, count=5)]
            holder.say("to/one/", chunk(key(1), 5, 0, b"early"))
            assert await fetched == b"early"

        tell(story)


class LinkListener:
    """A capability that waits for the first link."""

    topics: tuple[str, ...] = ()
    handlers: Mapping[type[Message], Any] = {}

    def __init__(self) -> None:
        self.linked_once = asyncio.Event()

    def linked(self, peer: PeerInfo) -> None:
        self.linked_once.set()

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Nothing to do."""


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_data_arrives_whole_over_real_sockets(transport: str, tmp_path: Path) -> None:
    def made(name: str, *join: str) -> tuple[Node, BlobStore, LinkListener]:
        listen = "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{tmp_path}/{name}.sock"
        node = Node(NodeSpec(name, "client", "test", listen, join=join), ZmqTransport())
        store, listener = BlobStore(node), LinkListener()
        node.add(store)
        node.add(listener)
        return node, store, listener

    one, holder, _ = made("one")
    async with asyncio.timeout(60), one:
        other, receiver, listener = made("other", one.address)
        async with other:
            await listener.linked_once.wait()
            sent = [data(20 * CHUNK + 11, 1), data(3 * CHUNK, 2), data(100, 3)]
            for number, each in enumerate(sent):
                holder.keep(key(number), each)
            fetched = (receiver.fetch(key(number), len(each), ["one"]) for number, each in enumerate(sent))
            assert list(await asyncio.gather(*fetched)) == sent
