"""A member's parts follow one another; catching up gives way to them, and a message waits for its opening."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from nodes.rounds.participation import MAX_EARLY, ParticipationQueue


class Part:
    """A part in an attempt that runs until it is let go, and notes what it does."""

    def __init__(self, attempt: int, log: list[str], term: int = 1) -> None:
        self.opened = message(attempt, term)
        self.adopts = self.abandoned = self.can_adopt = self.finishes = self.is_finished_alone = False
        self.leader = "a"
        self.name, self.log, self.go = f"part {attempt}", log, asyncio.Event()

    async def run(self) -> None:
        self.log.append(f"{self.name} begins")
        try:
            await self.go.wait()
        finally:
            self.log.append(f"{self.name} ends")

    def abandon(self, *, leader_lost: bool = False) -> None:
        self.finishes = leader_lost and self.is_finished_alone
        self.abandoned = not self.finishes

    def release(self) -> None:
        self.log.append(f"{self.name} is released")


def message(attempt: int, term: int = 1) -> Any:
    return SimpleNamespace(term=term, attempt=attempt)


class Tasks:
    """The node of a queue: what it spawns."""

    def spawn_for(self, _sender: str, work: Any, _name: str) -> asyncio.Task[None]:
        return asyncio.ensure_future(work())


@pytest.fixture
def queue() -> ParticipationQueue:
    return ParticipationQueue(Tasks())  # type: ignore[arg-type]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_later_part_begins_once_the_earlier_one_has_ended(queue: ParticipationQueue) -> None:
    log: list[str] = []
    parts: list[Any] = [Part(number, log) for number in (1, 2, 3)]
    for part in parts:
        queue.join(part)
        await settle()
    assert log == [
        "part 1 begins",
        "part 1 ends",
        "part 2 begins",
        "part 1 is released",
        "part 2 ends",
        "part 3 begins",
    ]
    assert [part.abandoned for part in parts] == [True, True, False]
    await queue_end(queue, parts[2])


async def queue_end(queue: ParticipationQueue, part: Any) -> None:
    part.go.set()
    await queue.idle()


async def test_a_committed_part_is_not_left(queue: ParticipationQueue) -> None:
    log: list[str] = []
    first: Any = Part(1, log)
    second: Any = Part(2, log)
    queue.join(first)
    await settle()
    first.adopts = True
    queue.join(second)
    await settle()
    assert log == ["part 1 begins"]
    first.go.set()
    await settle()
    assert log == ["part 1 begins", "part 1 ends", "part 2 begins"]
    await queue_end(queue, second)


async def test_a_part_that_is_finished_without_its_leader_is_waited_for(queue: ParticipationQueue) -> None:
    log: list[str] = []
    first: Any = Part(1, log)
    second: Any = Part(2, log, term=2)
    queue.join(first)
    await settle()
    first.is_finished_alone = True
    queue.leave(2)
    ended = asyncio.ensure_future(queue.ended(2))
    await settle()
    assert not ended.done(), "no other term is promised before"
    queue.join(second)
    await settle()
    assert log == ["part 1 begins"]
    first.go.set()
    await settle()
    assert ended.done()
    assert log == ["part 1 begins", "part 1 ends", "part 2 begins"]
    await queue_end(queue, second)


async def test_catching_up_gives_way_to_a_later_catching_up_and_to_a_part(queue: ParticipationQueue) -> None:
    log: list[str] = []

    async def catch_up(name: str) -> None:
        log.append(f"{name} begins")
        try:
            await asyncio.Event().wait()
        finally:
            log.append(f"{name} ends")

    queue.catch_up(lambda: catch_up("one"), "a")
    await settle()
    queue.catch_up(lambda: catch_up("two"), "a")
    await settle()
    part: Any = Part(1, log)
    queue.join(part)
    await settle()
    assert log == ["one begins", "one ends", "two begins", "two ends", "part 1 begins"]
    await queue_end(queue, part)


async def test_a_message_of_a_later_attempt_waits_for_its_opening_and_one_that_is_over_does_not(
    queue: ParticipationQueue,
) -> None:
    early = message(2)
    assert queue.defer("a", early)
    part: Any = Part(2, [])
    assert queue.join(part) == [("a", early)]
    assert not queue.defer("a", message(1))
    assert queue.part_in(message(2)) is part
    queue.settle(message(5))
    assert not queue.is_later(message(5))
    assert queue.is_later(message(6))
    await queue_end(queue, part)


async def test_a_part_of_an_earlier_term_is_left(queue: ParticipationQueue) -> None:
    log: list[str] = []
    part: Any = Part(1, log, term=3)
    queue.join(part)
    await settle()
    queue.leave(3)
    await settle()
    assert log == ["part 1 begins"]
    queue.leave(4)
    await settle()
    assert log == ["part 1 begins", "part 1 ends"]
    await queue.idle()


async def test_early_messages_wait_in_their_order_and_no_members_flood_costs_another_ones(
    queue: ParticipationQueue,
) -> None:
    first, second = message(2), message(2)
    assert queue.defer("b", first)
    flood = [message(3 + number) for number in range(3 * MAX_EARLY)]
    for early in flood:
        assert queue.defer("liar", early)
    assert queue.defer("a", second)
    part: Any = Part(2, [])
    assert queue.join(part) == [("b", first), *(("liar", early) for early in flood[-MAX_EARLY:]), ("a", second)]
    await queue_end(queue, part)
