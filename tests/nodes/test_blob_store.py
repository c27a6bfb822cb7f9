"""Fetching between nodes: it arrives whole through loss, disorder and deaths, and takes no more than its share."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from nodes import blob_store
from nodes.blob_store import MAX_BLOB_BYTES, MAX_QUEUED_BYTES, MAX_TRANSFERS, BlobStore
from nodes.errors import BlobUnavailable
from nodes.node import Node
from nodes.spec import NodeSpec
from nodes.transport.memory import Faults, MemoryTransport
from nodes.transport.zmq import ZmqTransport
from protocol.chunks import CHUNK, WINDOW, BlobFetch
from protocol.messages import Chunk, ChunkRequest, ChunkUnavailable, Hello, Message, PeerInfo, Welcome
from protocol.messages.blobs import MAX_CHUNK

Tell = Callable[..., Any]
PIECE = 1000


def data(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - replayable


def key(number: int) -> str:
    return f"{number:064x}"


def chunk(name: str, size: int, offset: int, piece: bytes) -> Chunk:
    return Chunk(key=name, total=size, offset=offset, data=torch.frombuffer(bytearray(piece), dtype=torch.uint8))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a thousand bytes, four at a time."""
    monkeypatch.setattr(blob_store, "Fetch", partial(BlobFetch, chunk=PIECE, window=4 * PIECE))


async def start(cluster: Any, name: str, *join: str) -> BlobStore:
    """A node that can do nothing but keep and fetch."""
    spec = cluster.spec(name, join=tuple(f"memory://{other}" for other in join))
    node = Node(spec, cluster.network.bus())
    depot = BlobStore(node)
    await cluster.enter(node, depot)
    return depot


async def group(cluster: Any, *names: str) -> list[BlobStore]:
    """Nodes that are linked with each other; they join through the first."""
    depots = [await start(cluster, name, *([names[0]] if name != names[0] else [])) for name in names]
    await asyncio.sleep(20)
    assert all(len(each._node.presence.linked()) == len(depots) - 1 for each in depots)
    return depots


def idle(depot: BlobStore) -> bool:
    """Whether nothing is left of any transfer."""
    return not depot._transfers and not depot._waiting and not depot._running


async def crash(depot: BlobStore) -> None:
    bus = depot._node._bus
    assert isinstance(bus, MemoryTransport)
    bus.crash()


class TestFetching:
    @pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 57 * PIECE + 3])
    def test_it_comes_whole(self, tell: Tell, small: None, size: int) -> None:
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

    def test_pieces_of_the_usual_size(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(3 * CHUNK + 7)
            one.keep(key(1), bytearray(sent))
            assert await other.fetch(key(1), len(sent), ["one"]) == sent

        tell(story)

    def test_what_is_kept_here_is_fetched_from_nobody(self, tell: Tell) -> None:
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
    def test_loss_repetition_and_disorder_only_slow_it_down(self, tell: Tell, small: None, seed: int) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(100 * PIECE, seed)
            one.keep(key(1), sent)
            assert await other.fetch(key(1), len(sent), ["one"]) == sent
            assert other._node.counts["unasked"], "pieces came twice, and were dropped"

        tell(story, Faults(drop=0.3, duplicate=0.2, delay=(0.0, 0.4)), seed)

    def test_two_fetches_of_one_key_share_one_transfer(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(20 * PIECE)
            one.keep(key(1), sent)
            before = cluster.network.carried
            first, second = await asyncio.gather(*(other.fetch(key(1), len(sent), ["one"]) for _ in range(2)))
            assert first.obj is second.obj
            assert first == sent
            assert cluster.network.carried - before < 2 * 20 + 10

        tell(story)

    def test_who_is_cancelled_takes_the_transfer_along_only_if_alone(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = data(20 * PIECE)
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

    def test_a_second_fetch_brings_its_own_holders(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, two, other = await group(cluster, "one", "two", "other")
            two.keep(key(1), b"x" * 20)
            cluster.network.cut(one._node.address, other._node.address)  # it never answers, and is not lost yet
            first = asyncio.create_task(other.fetch(key(1), 20, ["one"]))
            await asyncio.sleep(0.1)
            assert await other.fetch(key(1), 20, ["two"]) == await first == b"x" * 20

        tell(story)


class TestHolders:
    def test_who_lacks_it_is_passed_over(self, tell: Tell, small: None) -> None:
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
    def test_a_death_in_the_middle_is_made_good_by_another(self, tell: Tell, small: None, goodbye: bool) -> None:
        async def story(cluster: Any) -> None:
            one, two, other = await group(cluster, "two", "one", "other")
            one, two = two, one
            sent = data(200 * PIECE)
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

    def test_the_death_of_the_last_one_is_said(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            one.keep(key(1), data(200 * PIECE))
            fetched = asyncio.create_task(other.fetch(key(1), 200 * PIECE, ["one"]))
            await asyncio.sleep(0.1)
            await crash(one)
            async with asyncio.timeout(5):
                with pytest.raises(BlobUnavailable, match="one: lost: "):
                    await fetched
            await asyncio.sleep(0.1)
            assert idle(other)

        tell(story, Faults(delay=(0.005, 0.01)))

    def test_a_living_one_that_never_answers_is_given_up(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            mute = await cluster.forger("mute").link(one._node)
            started = one._now()
            with pytest.raises(BlobUnavailable, match="mute: gave nothing for 30 s"):
                await one.fetch(key(1), 10 * PIECE, ["mute"])
            assert 30 <= one._now() - started < 31
            assert len(mute.messages(ChunkRequest)) < 100

        tell(story)

    def test_one_that_is_met_but_not_linked_yet_is_waited_for(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            holder = await cluster.forger("holder").knock(one._node)
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


class TestBounds:
    def test_no_more_than_the_window_is_asked_of_anybody(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            holder = await cluster.forger("holder").link(one._node)
            tasks = [asyncio.create_task(one.fetch(key(n), 3 * WINDOW, ["holder"])) for n in range(2 * MAX_TRANSFERS)]
            await asyncio.sleep(0.2)
            wanted: dict[str, int] = {}
            for want in holder.messages(ChunkRequest):
                wanted[want.key] = wanted.get(want.key, 0) + want.count
            assert wanted == {key(n): WINDOW for n in range(MAX_TRANSFERS)}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.1)
            assert idle(one)

        tell(story)

    def test_the_next_transfer_begins_when_one_is_over(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            sent = {key(number): data(5 * PIECE, number) for number in range(3 * MAX_TRANSFERS)}
            for name, bytes_ in sent.items():
                one.keep(name, bytes_)
            fetched = asyncio.gather(*(other.fetch(name, 5 * PIECE, ["one"]) for name in sent))
            await asyncio.sleep(0)
            assert (other._running, len(other._waiting)) == (MAX_TRANSFERS, 2 * MAX_TRANSFERS)
            assert list(map(bytes, await fetched)) == list(sent.values())

        tell(story)

    def test_a_size_that_nobody_can_have_takes_no_memory(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, _ = await group(cluster, "one", "other")
            for size in (MAX_BLOB_BYTES + 1, 2**62, -1):
                with pytest.raises(BlobUnavailable, match="at most"):
                    await one.fetch(key(1), size, ["other"])
            assert idle(one)
            for wrong in ("", "AB" * 32, key(1) + "\n"):
                with pytest.raises(ValueError, match="is no key"):
                    await one.fetch(wrong, 1, ["other"])
                with pytest.raises(ValueError, match="is no key"):
                    one.keep(wrong, b"")

        tell(story)

    def test_what_was_not_asked_for_is_dropped_and_counted(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            (one,) = await group(cluster, "one")
            holder, other = await cluster.forger("h").link(one._node), await cluster.forger("o").link(one._node)
            say = partial(holder.say, "to/one/")
            say(chunk(key(1), 3, 0, b"bad"))
            say(ChunkUnavailable(key=key(1), total=3))
            fetched = asyncio.create_task(one.fetch(key(1), 1500, ["h", "o"]))
            await asyncio.sleep(0.1)
            other.say("to/one/", chunk(key(1), 1500, 0, b"b" * PIECE))  # a holder, but not asked
            other.say("to/one/", ChunkUnavailable(key=key(1), total=1500))
            for wrong in [(1501, 0, PIECE), (1500, 0, PIECE - 1), (1500, 1, PIECE), (1500, 500, PIECE)]:
                say(chunk(key(1), wrong[0], wrong[1], b"b" * wrong[2]))
            say(chunk(key(2), 1500, 0, b"b" * PIECE))
            say(chunk(key(1), 1500, 0, b"g" * PIECE))
            say(chunk(key(1), 1500, 0, b"b" * PIECE))  # again
            await asyncio.sleep(0.05)
            assert one._node.counts == {"unasked": 9}
            say(chunk(key(1), 1500, PIECE, b"g" * 500))
            assert await fetched == b"g" * 1500

        tell(story)

    def test_only_the_living_are_served_and_believed(self, tell: Tell, small: None) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            one.keep(key(1), b"mine")
            stranger = await cluster.forger("stranger").knock(one._node)
            double = await cluster.forger("other", incarnation=2**62).knock(one._node, "memory://elsewhere")
            cluster.network.cut(one._node.address, other._node.address)
            fetched = asyncio.create_task(one.fetch(key(2), 4, ["other"]))
            await asyncio.sleep(0.1)
            for forger in (stranger, double):
                forger.say("to/one/", ChunkRequest(key=key(1), total=4, offset=0, count=4))
                forger.say("to/one/", chunk(key(2), 4, 0, b"evil"))
                forger.say("to/one/", ChunkUnavailable(key=key(2), total=4))
            await asyncio.sleep(0.1)
            assert not stranger.messages(Chunk) + double.messages(Chunk)
            assert one._node.counts["stranger"] == 6
            assert not fetched.done()
            fetched.cancel()

        tell(story)


class Stuck(MemoryTransport):
    """A bus whose queues towards peers do not move: it holds every piece until `flush`."""

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
    async def stuck(cluster: Any, kept: bytes) -> tuple[BlobStore, Stuck]:
        bus = Stuck(cluster.network)
        bus.held = []
        node = Node(cluster.spec("one"), bus)
        depot = BlobStore(node)
        await cluster.enter(node, depot)
        depot.keep(key(1), kept)
        return depot, bus

    def test_a_flood_of_wants_fills_one_peers_share_and_no_more(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            kept = bytes(2 * MAX_QUEUED_BYTES)
            one, bus = await self.stuck(cluster, kept)
            greedy, modest = await cluster.forger("g").link(one._node), await cluster.forger("m").link(one._node)
            pieces = [
                ChunkRequest(key=key(1), total=len(kept), offset=offset, count=MAX_CHUNK)
                for offset in range(0, 2 * MAX_QUEUED_BYTES, MAX_CHUNK)
            ]
            for want in pieces * 3:
                greedy.say("to/one/", want)
            await asyncio.sleep(0.1)
            assert sum(len(frames[2]) for frames in bus.held) == MAX_QUEUED_BYTES
            assert one._node.counts["unserved"] == 3 * len(pieces) - MAX_QUEUED_BYTES // MAX_CHUNK
            modest.say("to/one/", pieces[0])
            await asyncio.sleep(0.1)
            assert sum(len(frames[2]) for frames in bus.held) == MAX_QUEUED_BYTES + MAX_CHUNK
            bus.flush()
            greedy.say("to/one/", pieces[-1])
            await asyncio.sleep(0.1)
            assert len(bus.held) == 1, "what has left makes room"

        tell(story)

    def test_what_still_waits_to_leave_is_not_sent_twice(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, bus = await self.stuck(cluster, data(3000))
            peer = await cluster.forger().link(one._node)
            want = ChunkRequest(key=key(1), total=3000, offset=1000, count=1000)
            for _ in range(5):
                peer.say("to/one/", want)
            await asyncio.sleep(0.1)
            assert (len(bus.held), one._node.counts["unserved"]) == (1, 4)
            bus.flush()
            peer.say("to/one/", want)
            await asyncio.sleep(0.1)
            bus.flush()
            await asyncio.sleep(0.1)
            assert [bytes(each.data.numpy()) for each in peer.messages(Chunk)] == [data(3000)[1000:2000]] * 2

        tell(story)

    def test_pieces_are_views_of_what_is_kept(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            kept = bytearray(data(3000))
            one, bus = await self.stuck(cluster, kept)  # type: ignore[arg-type]
            peer = await cluster.forger().link(one._node)
            peer.say("to/one/", ChunkRequest(key=key(1), total=3000, offset=500, count=2000))
            await asyncio.sleep(0.1)
            one.drop(key(1))
            kept[500] ^= 255  # forbidden, and visible for just that reason
            assert bytes(bus.held[0][2]) == bytes(kept[500:2500])

        tell(story)

    def test_nothing_is_remembered_of_who_has_gone(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            one, other = await group(cluster, "one", "other")
            one.keep(key(1), b"data")
            await other.fetch(key(1), 4, ["one"])
            assert "other" in one._queued
            await crash(other)
            await asyncio.sleep(10)
            assert not one._queued

        tell(story)


class Bell:
    """A capability that tells when somebody is linked."""

    topics: tuple[str, ...] = ()
    handlers: Mapping[type[Message], Any] = {}

    def __init__(self) -> None:
        self.rung = asyncio.Event()

    def linked(self, peer: PeerInfo) -> None:
        self.rung.set()

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Nothing to do."""


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_it_comes_whole_over_real_sockets(transport: str, tmp_path: Path) -> None:
    def made(name: str, *join: str) -> tuple[Node, BlobStore, Bell]:
        listen = "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{tmp_path}/{name}.sock"
        node = Node(NodeSpec(name, "client", "test", listen, join=join), ZmqTransport())
        depot, bell = BlobStore(node), Bell()
        node.add(depot)
        node.add(bell)
        return node, depot, bell

    one, holder, _ = made("one")
    async with asyncio.timeout(60), one:
        other, receiver, bell = made("other", one.address)
        async with other:
            await bell.rung.wait()
            sent = [data(20 * CHUNK + 11, 1), data(3 * CHUNK, 2), data(100, 3)]
            for number, each in enumerate(sent):
                holder.keep(key(number), each)
            fetched = (receiver.fetch(key(number), len(each), ["one"]) for number, each in enumerate(sent))
            assert list(await asyncio.gather(*fetched)) == sent
