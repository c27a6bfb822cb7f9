"""Work that peers ask for is done in turns: bounded in bytes, one peer after the other, and never after an error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from nodes.fault_boundary import FaultBoundary
from nodes.turns import MAX_WAITING, TURN_BYTES, Turns


class Place:
    """Turns, what is done in them, and the faults of peers."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.faults: list[str] = []
        self.turns = Turns(FaultBoundary(lambda name, _kind, _why: self.faults.append(name)))

    def work(self, what: str, pieces: int, size: int = TURN_BYTES // 4, fails: int | None = None) -> Iterator[int]:
        for piece in range(pieces):
            if piece == fails:
                raise ValueError(what)
            self.done.append(what)
            yield size

    async def turn(self) -> list[str]:
        """What is done in the next turn."""
        before = len(self.done)
        await asyncio.sleep(0)
        return self.done[before:]


@pytest.fixture
def place() -> Place:
    return Place()


async def test_a_turn_ends_with_its_bytes_and_one_peer_waits_for_no_other(place: Place) -> None:
    place.turns.add("b", place.work("b1", 6))
    place.turns.add("b", place.work("b2", 1))
    place.turns.add("c", place.work("c", 5))
    assert place.done == []
    assert [await place.turn() for _ in range(5)] == [["b1"] * 4, ["c"] * 4, ["b1", "b1", "b2"], ["c"], []]


async def test_a_larger_piece_has_a_turn_of_its_own(place: Place) -> None:
    place.turns.add("b", place.work("b", 2, 30 * TURN_BYTES))
    assert [await place.turn() for _ in range(2)] == [["b"], ["b"]]


async def test_so_many_requests_of_one_peer_wait_and_no_more(place: Place) -> None:
    assert all(place.turns.add("b", place.work("b", 1)) for _ in range(MAX_WAITING))
    assert not place.turns.add("b", place.work("b", 1))
    assert place.turns.add("c", place.work("c", 1)), "another's are none of its"
    while await place.turn():
        pass
    assert place.done.count("b") == MAX_WAITING
    assert place.turns.add("b", place.work("b", 1))


async def test_work_that_fails_is_over_and_a_fault_of_who_has_asked_for_it(place: Place) -> None:
    place.turns.add("b", place.work("b1", 3, fails=1))
    place.turns.add("b", place.work("b2", 1))
    assert await place.turn() == ["b1", "b2"]
    assert place.faults == ["b"]


async def test_nothing_is_done_for_who_has_left(place: Place) -> None:
    place.turns.add("b", place.work("b1", 8))
    await place.turn()
    place.turns.forget("b")
    place.turns.add("b", place.work("b2", 8))
    assert [await place.turn() for _ in range(3)] == [["b2"] * 4, ["b2"] * 4, []]
