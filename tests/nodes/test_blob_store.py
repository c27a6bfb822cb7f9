"""Fetching between nodes: data arrives whole through faults of the network, crashes of its holders, and lies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.federated import hash_tree
from fednet.federated.hash_tree import HashTree
from nodes import blob_stream
from nodes.blob_store import Blob, BlobStore
from nodes.blob_stream import FALSE_CHUNK, FALSE_LEAVES, leaves_size, now
from nodes.errors import BlobUnavailable
from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport.memory import Faults, MemoryTransport
from nodes.transport.zmq import ZmqTransport
from protocol.chunks import CHUNK, BlobFetch
from protocol.messages import Chunk, ChunkRequest, Hello, Message, PeerInfo, Welcome
from tests.cases import first

Tell = Callable[..., Any]
SMALL = 1000


def data(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - replayable


def key(seed: int) -> str:
    """The key of some data."""
    return of(data(5, seed)).tree.root


def of(content: bytes) -> Blob:
    """Data as a blob."""
    size = hash_tree.CHUNK
    tree = HashTree.of(content[offset : offset + size] for offset in range(0, len(content), size))
    return Blob(tree, lambda offset, count: content[offset : offset + count])


async def fetch(store: BlobStore, name: str, size: int, holders: list[str]) -> bytes:
    """A whole blob."""
    async with store.stream(name, size, holders) as stream:
        return b"".join([bytes(await stream.take()) for _ in range(hash_tree.chunk_count(size))])


async def fetch_same(store: BlobStore, content: bytes, *holders: str) -> None:
    """Fetches a blob that is known beforehand."""
    assert await fetch(store, of(content).tree.root, len(content), list(holders)) == content


def answer(blob: Blob, offset: int, count: int) -> Chunk:
    """A range of the leaves and the data as an honest holder sends it."""
    view, total = blob.range(offset, count), leaves_size(blob.tree.size) + blob.tree.size
    assert view is not None
    part = torch.frombuffer(bytearray(view), dtype=torch.uint8)
    return Chunk(key=blob.tree.root, total=total, offset=offset, data=part)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a thousand bytes, eight at a time."""
    for module in (hash_tree, blob_stream):
        monkeypatch.setattr(module, "CHUNK", SMALL)
    monkeypatch.setattr(blob_stream, "BlobFetch", lambda *args, **sizes: BlobFetch(*args, **{**sizes, "window": 8}))


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


class TestFetching:
    @pytest.mark.parametrize("size", [1, SMALL - 1, SMALL, SMALL + 1, 57 * SMALL + 3])
    def test_data_arrives_whole(self, tell: Tell, small: None, size: int) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            blob = of(data(size))
            one.keep(blob)
            await fetch_same(other, data(size), "one")
            assert not other.has(blob.tree.root)
            assert idle(other)
            assert not one._node.counts
            assert not other._node.counts

        tell(story)

    def test_chunks_of_the_default_size(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(3 * CHUNK + 7)
            one.keep(of(sent))
            await fetch_same(other, sent, "one")

        tell(story)

    def test_some_of_the_chunks(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(10 * SMALL + 5)
            blob = of(sent)
            one.keep(blob)
            before = cluster.network.carried
            async with other.stream(blob.tree.root, len(sent), ["one"], [1, 4, 10]) as stream:
                got = [bytes(await stream.take()) for _ in range(3)]
                assert stream.tree == blob.tree
                with pytest.raises(EOFError):
                    await stream.take()
            assert got == [sent[SMALL : 2 * SMALL], sent[4 * SMALL : 5 * SMALL], sent[10 * SMALL :]]
            assert cluster.network.carried - before < 2 * 4 + 4, "nothing else was sent"

        tell(story)

    def test_what_is_kept_is_dropped_as_often(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            blob = of(b"here")
            one.keep(blob)
            one.keep(blob)
            one.drop(blob.tree.root)
            assert one.has(blob.tree.root)
            one.drop(blob.tree.root)
            one.drop(blob.tree.root)
            assert not one.has(blob.tree.root)
            with pytest.raises(BlobUnavailable, match="one: is this node itself"):
                await fetch_same(one, b"here", "one")

        tell(story)

    @pytest.mark.parametrize("seed", first(2, range(4)))
    def test_faults_of_the_network_only_slow_it_down(self, tell: Tell, small: None, seed: int) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(100 * SMALL, seed)
            one.keep(of(sent))
            await fetch_same(other, sent, "one")
            assert other._node.counts["unasked"], "chunks came twice, and were dropped"
            assert not other._node.counts["false chunk"]

        tell(story, Faults(drop=0.3, duplicate=0.2, delay=(0.0, 0.4)), seed)

    def test_two_streams_of_one_blob_do_not_disturb_each_other(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, two, other = await group(cluster, "one", "two", "other")
            sent = data(20 * SMALL)
            one.keep(of(sent))
            two.keep(of(sent))
            await asyncio.gather(*(fetch_same(other, sent, *names) for names in (["one"], ["one"], ["two"])))
            assert idle(other)

        tell(story)

    def test_a_stream_that_is_left_requests_nothing_more(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(50 * SMALL)
            one.keep(of(sent))
            async with other.stream(of(sent).tree.root, len(sent), ["one"]) as stream:
                await stream.take()
            assert idle(other)
            before = cluster.network.carried
            await asyncio.sleep(0.1)
            assert cluster.network.carried - before < 20, "what was in flight, and no more"

        tell(story, Faults(delay=(0.001, 0.002)))


class TestHolders:
    def test_holders_that_lack_it_are_skipped(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, two, other = await group(cluster, "one", "two", "other")
            one.keep(of(b"something else"))
            two.keep(of(b"right"))
            await fetch_same(other, b"right", "nobody", "one", "other", "two")
            with pytest.raises(BlobUnavailable) as caught:
                await fetch(other, key(2), 5, ["nobody", "one", "two"])
            assert caught.value.reasons == {"nobody": "is not there", "one": "lacks it", "two": "lacks it"}
            assert str(caught.value).endswith("nobody: is not there, one: lacks it, two: lacks it")
            with pytest.raises(BlobUnavailable, match="nobody is said to have it"):
                await fetch(other, key(2), 5, [])
            assert idle(other)

        tell(story)

    @pytest.mark.parametrize("goodbye", [True, False])
    def test_another_holder_continues_after_a_crash(self, tell: Tell, small: None, goodbye: bool) -> None:
        async def story(cluster: Any) -> None:
            two, one, other = await group(cluster, "two", "one", "other")
            sent = data(200 * SMALL)
            one.keep(of(sent))
            two.keep(of(sent))
            fetched = asyncio.create_task(fetch_same(other, sent, "one", "two"))
            await asyncio.sleep(0.1)
            assert not fetched.done()
            if goodbye:
                await one._node.__aexit__(None, None, None)
            else:
                await crash(one)
            await fetched

        tell(story, Faults(delay=(0.005, 0.01)))

    def test_the_loss_of_the_last_holder_is_an_error(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(200 * SMALL)
            one.keep(of(sent))
            fetched = asyncio.create_task(fetch_same(other, sent, "one"))
            await asyncio.sleep(0.1)
            await crash(one)
            async with asyncio.timeout(5):
                with pytest.raises(BlobUnavailable, match="one: lost: "):
                    await fetched
            assert idle(other)

        tell(story, Faults(delay=(0.005, 0.01)))

    def test_a_silent_holder_is_given_up(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            silent = await cluster.forger("silent").link(one._node)
            started = now()
            with pytest.raises(BlobUnavailable, match="silent: gave nothing for 30 s"):
                await fetch(one, key(1), 10 * SMALL, ["silent"])
            assert 30 <= now() - started < 31
            assert len(silent.messages(ChunkRequest)) < 200

        tell(story)

    def test_a_known_holder_that_is_not_linked_yet_is_waited_for(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            holder = await cluster.forger("holder").send_join_request(one._node)
            greeted = one._node.presence.me.incarnation
            holder.say("to/one/", Hello(peer=holder.me, receiver_incarnation=greeted, members=(), latest={}))
            await asyncio.sleep(0.1)
            blob = of(b"early")
            fetched = asyncio.create_task(fetch_same(one, b"early", "holder"))
            await asyncio.sleep(1)
            assert not holder.messages(ChunkRequest)
            holder.say("to/one/", Welcome(receiver_incarnation=one._node.presence.me.incarnation))
            await asyncio.sleep(0.1)
            requests = [(each.key, each.total, *some) for each in holder.messages(ChunkRequest) for some in each.ranges]
            assert requests == [(blob.tree.root, 37, 0, 32), (blob.tree.root, 37, 32, 5)]
            for _, _, offset, count in requests[::-1]:
                holder.say("to/one/", answer(blob, offset, count))
            await fetched

        tell(story)


class TestLies:
    @pytest.mark.parametrize("lie", ["leaves", "first chunk", "last chunk"])
    def test_a_holder_that_sends_other_bytes_is_named_and_another_one_asked(
        self, tell: Tell, small: None, lie: str
    ) -> None:
        async def story(cluster: Any) -> None:
            one, two, other = await group(cluster, "one", "two", "other")
            sent = data(5 * SMALL)
            true = of(sent)
            false = {
                "leaves": Blob(of(data(5 * SMALL, 1)).tree, true.read),
                "first chunk": Blob(
                    true.tree, lambda offset, count: data(count, 1) if offset == 0 else true.read(offset, count)
                ),
                "last chunk": Blob(
                    true.tree, lambda offset, count: data(count, 1) if offset > 3500 else true.read(offset, count)
                ),
            }[lie]
            one.keep(true)
            one._kept[true.tree.root] = false
            what = FALSE_LEAVES if lie == "leaves" else FALSE_CHUNK
            with pytest.raises(BlobUnavailable, match=f"one: {what}"):
                await fetch_same(other, sent, "one")
            assert other._node.counts["false chunk"] >= 1
            two.keep(true)
            await fetch_same(other, sent, "one", "two")
            assert idle(other)

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
            for each in sent:
                holder.keep(of(each))
            await asyncio.gather(*(fetch_same(receiver, each, "one") for each in sent))
