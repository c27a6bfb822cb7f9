"""A stream checks every chunk by itself, hands them out in order, and holds no more than its window."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest

from fednet.federated import hash_tree
from fednet.federated.hash_tree import HashTree
from nodes import blob_stream
from nodes.blob_stream import FALSE_CHUNK, FALSE_LEAVES, BlobStream
from nodes.errors import BlobUnavailable

Play = Callable[..., None]
SMALL = 100
DATA = random.Random(0).randbytes(10 * SMALL + 7)  # noqa: S311 - replayable
TREE = HashTree.of(DATA[offset : offset + SMALL] for offset in range(0, len(DATA), SMALL))
HEAD = len(TREE.leaves)


class Reader:
    """A stream of `DATA` whose holders are played here.

    Attributes:
        requested: the ranges that have not been answered: (holder, offset, count).
        convicted: who has sent other bytes, and what it did.
    """

    def __init__(
        self,
        *holders: str,
        indices: Sequence[int] | None = None,
        window: int = 4 * SMALL,
        tree: HashTree | None = None,
    ) -> None:
        self.requested: list[tuple[str, int, int]] = []
        self.convicted: list[tuple[str, str]] = []
        self.ends = 0
        self.stream = BlobStream(
            TREE.root, len(DATA), holders,
            request=lambda holder, ranges: self.requested.extend((holder, *some) for some in ranges), ended=self._ended,
            convict=lambda *what: self.convicted.append(what), patience=0.25, indices=indices, window=window,
            tree=tree,
        )  # fmt: skip
        self.stream.start(holders, {})

    def _ended(self, stream: BlobStream) -> None:
        self.ends += 1

    def answer(
        self, *, backwards: bool = False, false: Callable[[str, int], bool] = lambda _holder, _offset: False
    ) -> None:
        """Answers what was requested."""
        requested, self.requested = self.requested[:: -1 if backwards else 1], []
        for holder, offset, count in requested:
            if self.stream.expects(holder, offset, count):
                part = (TREE.leaves + DATA)[offset : offset + count]
                self.stream.arrive(holder, offset, memoryview(bytes(count) if false(holder, offset) else part))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (hash_tree, blob_stream):
        monkeypatch.setattr(module, "CHUNK", SMALL)


@pytest.mark.parametrize("backwards", [False, True])
def test_chunks_are_handed_out_in_order_and_the_window_is_kept(fake_time: Play, backwards: bool) -> None:
    async def story() -> None:
        reader, got = Reader("a"), list[bytes]()
        while len(got) < 11:
            assert len(reader.requested) + len(reader.stream._chunks) <= 4
            reader.answer(backwards=backwards)
            if len(got) in reader.stream._chunks:
                got.append(bytes(await reader.stream.take()))
        assert b"".join(got) == DATA
        assert (reader.ends, reader.convicted, reader.stream.tree) == (1, [], TREE)

    fake_time(story())


def test_leaves_that_are_known_are_not_requested(fake_time: Play) -> None:
    async def story() -> None:
        reader = Reader("a", "b", indices=[1, 10], tree=TREE)
        assert reader.requested == [("a", HEAD + SMALL, SMALL), ("a", HEAD + 10 * SMALL, 7)]
        reader.answer(false=lambda _holder, offset: offset == HEAD + SMALL)
        assert reader.convicted == [("a", FALSE_CHUNK)]
        reader.answer()
        assert [bytes(await reader.stream.take()) for _ in range(2)] == [DATA[SMALL : 2 * SMALL], DATA[10 * SMALL :]]
        assert reader.ends == 1

    fake_time(story())


def test_a_reader_that_waits_takes_up_its_window_and_blames_nobody(fake_time: Play) -> None:
    async def story() -> None:
        reader = Reader("a", "b")
        for _ in range(5):
            reader.answer()
        assert len(reader.stream._chunks) == 3, "the leaves had room, too; what they leave is less than half the window"
        await asyncio.sleep(1000)
        assert reader.requested == []
        await reader.stream.take()
        assert reader.requested == [("a", HEAD + 3 * SMALL, SMALL), ("a", HEAD + 4 * SMALL, SMALL)]
        reader.stream.close()

    fake_time(story())


@pytest.mark.parametrize(("offset", "what"), [(0, FALSE_LEAVES), (HEAD, FALSE_CHUNK), (HEAD + 10 * SMALL, FALSE_CHUNK)])
def test_a_liar_is_named_at_once_and_the_next_holder_asked(fake_time: Play, offset: int, what: str) -> None:
    async def story() -> None:
        reader, got = Reader("liar", "honest"), list[bytes]()
        while len(got) < 11:
            reader.answer(false=lambda holder, at: (holder, at) == ("liar", offset))
            if len(got) in reader.stream._chunks:
                got.append(bytes(await reader.stream.take()))
        assert reader.convicted == [("liar", what)]
        assert b"".join(got) == DATA

    fake_time(story())


def test_with_liars_only_it_fails_and_names_them(fake_time: Play) -> None:
    async def story() -> None:
        reader = Reader("one", "two")
        for _ in range(9):
            reader.answer(false=lambda _holder, offset: offset >= HEAD)
        with pytest.raises(BlobUnavailable) as caught:
            await reader.stream.take()
        assert caught.value.reasons == {"one": FALSE_CHUNK, "two": FALSE_CHUNK}
        assert reader.ends == 1

    fake_time(story())


def test_only_the_named_chunks(fake_time: Play) -> None:
    async def story() -> None:
        reader = Reader("a", indices=[2, 10])
        reader.answer()
        assert [bytes(await reader.stream.take()) for _ in range(2)] == [
            DATA[2 * SMALL : 3 * SMALL],
            DATA[10 * SMALL :],
        ]
        with pytest.raises(EOFError):
            await reader.stream.take()

    fake_time(story())


def test_a_stream_that_is_left_requests_nothing(fake_time: Play) -> None:
    async def story() -> None:
        reader = Reader("a", "b")
        async with reader.stream:
            reader.answer()
        reader.requested.clear()
        reader.stream.holder_lost("a", "lost")
        await asyncio.sleep(10)
        assert (reader.requested, reader.ends) == ([], 1)

    fake_time(story())
