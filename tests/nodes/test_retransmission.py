"""What was missed is asked of whoever is there, what was said is said again, and what is lost is named."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from nodes.fault_boundary import FaultBoundary
from nodes.publisher import BUFFER_OVERHEAD_BYTES, Publisher
from nodes.retransmission import MAX_REPEATED_BYTES, REPEATED_MESSAGE_BYTES, RetransmissionService
from nodes.turns import MAX_WAITING, TURN_BYTES
from protocol import codec
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.messages import Capabilities, Message, RetransmitRequest
from protocol.messages.presence import PeerInfo
from protocol.messages.retransmission import Retransmission, RetransmitUnavailable
from protocol.security.authentication import NullSecurity
from protocol.security.budget import Cost
from protocol.topics import PRESENCE, QUERIES, inbox

CARD = Capabilities(text="{}", ready=False)
PEER = PeerInfo(name="b", incarnation=3, role="client", address="memory://b", heartbeat_address="memory://b")


async def turns(count: int = 20) -> None:
    """Lets the event loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


class Place:
    """A repair whose words are remembered."""

    def __init__(self) -> None:
        self.said: list[Envelope] = []
        self.lost: list[str] = []
        self.faults: list[tuple[str, str]] = []
        self.linked: set[tuple[str, int]] = {("b", 3), ("c", 5)}
        self.waiting = 0
        self.budget = 1e9
        self.counts: Counter[str] = Counter()
        self.boundary = FaultBoundary(self.fault)
        bus: Any = self
        self.publisher = Publisher(bus, NullSecurity(), "a", 7, "raw")
        self.publisher.run = "test"
        self.repair = RetransmissionService(self.publisher, 0.25, self.counts, bus)
        self.repair.heard = {PRESENCE}

    def publish(self, frames: Sequence[Buffer]) -> None:
        self.said.append(codec.decode([bytes(frame) for frame in frames]))

    def refused(self, kind: str, why: str) -> None:
        self.lost.append(f"{kind}: {why}")

    def fault(self, sender: str, kind: str, why: str) -> None:
        self.faults.append((sender, kind))

    def charge(self, payer: str, cost: Cost, amount: float = 1.0, *, proven: bool = True) -> bool:
        self.budget -= amount if (affords := cost is Cost.REPEATED and amount <= self.budget) else 0
        return affords

    def is_linked(self, name: str, incarnation: int) -> bool:
        return (name, incarnation) in self.linked

    def queued(self, topic: str) -> int:
        return self.waiting if topic == inbox("b") else 0

    async def requests(self, topic: str, first: int, last: int, incarnation: int = 3) -> list[Message]:
        """What b is answered that asks for these numbers of ours."""
        self.said.clear()
        request = RetransmitRequest(topic=topic, incarnation=7, first=first, last=last)
        self.repair.handlers[RetransmitRequest](Envelope(inbox("a"), "test", "b", incarnation, 0, request), request)
        await turns()
        assert all(each.topic == inbox("b") for each in self.said)
        return [each.message for each in self.said]

    def hears(self, number: int, incarnation: int = 3, now: float = 0.0) -> bool:
        return self.repair.accept(Envelope(PRESENCE, "test", "b", incarnation, number, CARD), now)

    def handle(self, message: Message) -> None:
        self.repair.handlers[type(message)](Envelope(inbox("a"), "test", "b", 3, 0, message), message)


@pytest.fixture
def place() -> Place:
    return Place()


def test_each_number_is_taken_once_and_none_before_the_hello(place: Place) -> None:
    assert not place.hears(1)
    place.repair.start("b", 3, {})
    assert [place.hears(number) for number in (1, 2, 2, 1)] == [True, True, False, False]
    assert not place.hears(3, incarnation=2)
    assert place.counts == {"early": 2, "duplicate": 2}


def test_a_gap_is_asked_for_from_who_is_there(place: Place) -> None:
    place.repair.start("b", 3, {PRESENCE: 4})
    assert place.hears(8)
    place.repair.ask([], 1.0)
    assert not place.said, "nobody is there to be asked"
    place.repair.ask([PEER], 2.0)
    assert [(each.topic, each.message) for each in place.said] == [
        (inbox("b"), RetransmitRequest(topic=PRESENCE, incarnation=3, first=5, last=7))
    ]
    assert place.counts["asked again"] == 6


def test_what_a_peer_claims_to_have_said_counts_on_our_topics_only(place: Place) -> None:
    place.repair.claimed("b", 3, {PRESENCE: 2}, 0.0)  # it has not said hello
    place.repair.start("b", 3, {})
    place.repair.claimed("b", 3, {PRESENCE: 1, QUERIES: 9, inbox("c"): 9}, 0.0)
    place.repair.ask([PEER], 1.0)
    assert [each.message for each in place.said] == [RetransmitRequest(topic=PRESENCE, incarnation=3, first=1, last=1)]


def test_what_is_gone_is_named_once(place: Place) -> None:
    place.repair.start("b", 3, {})
    assert place.hears(3)
    for _ in range(2):
        place.handle(RetransmitUnavailable(topic=PRESENCE, first=1, last=2))
    assert place.lost == [f"gone: b no longer has {PRESENCE} number {number}: it is lost" for number in (1, 2)]


async def test_what_was_said_is_said_again(place: Place) -> None:
    place.repair.greet("b", 3, {})
    place.publisher.publish(PRESENCE, CARD)
    assert await place.requests(PRESENCE, 1, 1) == [Retransmission()]


class TestRequests:
    """Of what was said, everybody has what was said to it, since it came: and no more of that than it takes."""

    @pytest.fixture
    def place(self) -> Place:
        place = Place()
        for topic in (PRESENCE, inbox("b"), inbox("c")):
            for _ in range(2):
                place.publisher.publish(topic, CARD)
        place.repair.greet("b", 3, place.publisher.latest(["b"]))
        place.repair.greet("b", 3, {})  # a later greeting changes nothing
        for topic in (PRESENCE, inbox("b"), inbox("c")):
            place.publisher.publish(topic, CARD)
        return place

    @pytest.mark.parametrize("topic", [PRESENCE, inbox("b")])
    async def test_what_was_said_before_a_peer_came_is_not_for_it(self, place: Place, topic: str) -> None:
        assert await place.requests(topic, 1, 3) == [
            Retransmission(),
            RetransmitUnavailable(topic=topic, first=1, last=2),
        ]
        assert not place.faults

    async def test_what_was_said_to_another_is_a_fault_to_request(self, place: Place) -> None:
        assert await place.requests(inbox("c"), 1, 3) == []
        assert place.faults == [("b", "eavesdropping")]

    @pytest.mark.parametrize("incarnation", [2, 4])
    async def test_another_incarnation_has_nothing_before_it_is_greeted(self, place: Place, incarnation: int) -> None:
        place.linked.add(("b", incarnation))
        assert await place.requests(PRESENCE, 1, 3, incarnation) == []
        place.repair.greet("b", incarnation, place.publisher.latest(["b"]))
        assert await place.requests(PRESENCE, 1, 3, incarnation) == [
            RetransmitUnavailable(topic=PRESENCE, first=1, last=3)
        ]

    async def test_who_is_not_linked_or_has_left_has_nothing(self, place: Place) -> None:
        place.linked.clear()
        assert await place.requests(PRESENCE, 1, 3) == []
        place.linked.add(("b", 3))
        place.repair.forget("b")
        assert await place.requests(PRESENCE, 1, 3) == []
        assert place.counts["stranger"] == 2

    async def test_nothing_more_is_repeated_while_as_much_waits_as_may(self, place: Place) -> None:
        place.waiting = MAX_REPEATED_BYTES
        assert await place.requests(PRESENCE, 3, 3) == []
        place.waiting -= 1
        assert await place.requests(PRESENCE, 3, 3) == [Retransmission()]

    async def test_what_is_repeated_is_charged_in_bytes_before_it_is_sent(self, place: Place) -> None:
        frames = place.publisher.outbox.find(PRESENCE, 3)
        assert frames is not None
        place.budget = 1.5 * (sum(map(len, frames)) + BUFFER_OVERHEAD_BYTES)
        place.publisher.publish(PRESENCE, CARD)
        assert await place.requests(PRESENCE, 3, 4) == [Retransmission()]

    async def test_what_is_gone_costs_as_well(self, place: Place) -> None:
        place.budget = 2 * BUFFER_OVERHEAD_BYTES
        assert await place.requests(PRESENCE, 4, 1000) == [RetransmitUnavailable(topic=PRESENCE, first=4, last=5)]

    async def test_what_is_said_anew_on_request_is_charged_and_waits_alike(self, place: Place) -> None:
        place.said.clear()
        place.budget = 2 * REPEATED_MESSAGE_BYTES + 1000
        place.repair.repeat("b", [(CARD, 1000)])
        await turns()
        place.waiting = MAX_REPEATED_BYTES
        place.repair.repeat("b", [(CARD, 0)])
        await turns()
        place.waiting = 0
        place.repair.repeat("b", [(CARD, 0), (CARD, 0)])
        await turns()
        assert [each.topic for each in place.said] == [inbox("b")] * 2


class TestTurns:
    """A request of 200 bytes may ask for tens of megabytes, which hold up nobody else."""

    TEXT, COUNT = 16_000, 150

    @pytest.fixture
    def place(self) -> Place:
        place = Place()
        place.repair.greet("b", 3, {})
        for _ in range(self.COUNT):
            place.publisher.publish(PRESENCE, Capabilities(text="x" * self.TEXT, ready=True))
        place.said.clear()
        return place

    async def test_no_turn_repeats_more_than_its_bytes(self, place: Place) -> None:
        request = RetransmitRequest(topic=PRESENCE, incarnation=7, first=1, last=self.COUNT)
        for _ in range(2):
            place.handle(request)
        assert not place.said, "the handler itself repeats nothing"
        by_turn = list[int]()
        while sum(by_turn) < 2 * self.COUNT:
            await asyncio.sleep(0)
            by_turn.append(len(place.said) - sum(by_turn))
        assert max(by_turn) <= TURN_BYTES // self.TEXT + 1
        assert sum(by_turn) == 2 * self.COUNT

    async def test_what_is_requested_beyond_what_may_wait_is_paid_for(self, place: Place) -> None:
        before = place.budget
        for _ in range(MAX_WAITING + 10):
            place.handle(RetransmitRequest(topic=PRESENCE, incarnation=7, first=1, last=1))
        assert before - place.budget == 10 * REPEATED_MESSAGE_BYTES
        await turns()
        assert len(place.said) == MAX_WAITING
        assert place.counts["not repeated yet"] == 10

    async def test_what_is_said_anew_on_request_comes_in_turns_too(self, place: Place) -> None:
        place.repair.repeat("b", [(CARD, 0)] * 100)
        assert not place.said
        await asyncio.sleep(0)
        assert 0 < len(place.said) <= TURN_BYTES // REPEATED_MESSAGE_BYTES

    @pytest.mark.parametrize("ends", ["lost", "left", "restarted"])
    async def test_who_has_gone_between_two_turns_has_nothing_more(self, place: Place, ends: str) -> None:
        place.handle(RetransmitRequest(topic=PRESENCE, incarnation=7, first=1, last=self.COUNT))
        await asyncio.sleep(0)
        repeated = len(place.said)
        place.linked.discard(("b", 3))
        if ends == "left":
            place.repair.forget("b")
        elif ends == "restarted":
            place.linked.add(("b", 4))
        await turns()
        assert len(place.said) == repeated > 0


def test_nothing_is_asked_of_or_kept_for_who_has_left(place: Place) -> None:
    place.repair.start("b", 3, {})
    assert place.hears(3)
    place.publisher.publish(inbox("b"), CARD)
    place.repair.forget("b")
    place.said.clear()
    place.repair.ask([PEER], 1.0)
    assert (place.said, place.publisher.outbox.stored_bytes, place.publisher.latest(["b"])) == ([], 0, {})
