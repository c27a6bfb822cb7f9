"""What was missed is asked of whoever is there, what was said is said again, and what is lost is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from nodes.publisher import Publisher
from nodes.retransmission import RetransmissionService
from protocol import codec
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.messages import Capabilities, Message, RetransmitRequest
from protocol.messages.presence import PeerInfo
from protocol.messages.retransmission import Retransmission, RetransmitUnavailable
from protocol.security.authentication import NullSecurity
from protocol.topics import PRESENCE, QUERIES, inbox

CARD = Capabilities(text="{}", ready=False)
PEER = PeerInfo(name="b", incarnation=3, role="client", address="memory://b", heartbeat_address="memory://b")


class Place:
    """A repair whose words are remembered."""

    def __init__(self) -> None:
        self.said: list[Envelope] = []
        self.lost: list[str] = []
        self.counts: Counter[str] = Counter()
        bus: Any = self
        self.publisher = Publisher(bus, NullSecurity(), "a", 7, "raw")
        self.publisher.run = "test"
        self.repair = RetransmissionService(
            self.publisher, 0.25, self.counts, lambda kind, why: self.lost.append(f"{kind}: {why}")
        )
        self.repair.heard = {PRESENCE}

    def publish(self, frames: Sequence[Buffer]) -> None:
        self.said.append(codec.decode([bytes(frame) for frame in frames]))

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


def test_what_was_said_is_said_again(place: Place) -> None:
    place.publisher.publish(PRESENCE, CARD)
    place.handle(RetransmitRequest(topic=PRESENCE, incarnation=7, first=1, last=1))
    assert isinstance(place.said[-1].message, Retransmission)


def test_nothing_is_asked_of_or_kept_for_who_has_left(place: Place) -> None:
    place.repair.start("b", 3, {})
    assert place.hears(3)
    place.publisher.publish(inbox("b"), CARD)
    place.repair.forget("b")
    place.said.clear()
    place.repair.ask([PEER], 1.0)
    assert (place.said, place.publisher.outbox.stored_bytes, place.publisher.latest(["b"])) == ([], 0, {})
