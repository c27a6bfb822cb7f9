"""What presence decides is done: greetings in pieces, links and losses told, what waits for the lost left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from nodes import membership
from nodes.capability import Handler
from nodes.fault_boundary import FaultBoundary
from nodes.membership import MAX_MEMBERS_PER_HELLO, Membership, MembershipContext
from nodes.publisher import Publisher
from nodes.retransmission import RetransmissionService
from protocol import codec, topics
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.messages import Message
from protocol.messages.presence import Goodbye, Heartbeat, Hello, PeerInfo, Welcome
from protocol.presence import Presence
from protocol.security.authentication import NullSecurity
from protocol.security.budget import Cost

ME = 7


def info(name: str, incarnation: int = 1) -> PeerInfo:
    return PeerInfo(
        name=name,
        incarnation=incarnation,
        role="client",
        address=f"memory://{name}",
        heartbeat_address=f"memory://{name}.heartbeat",
    )


class Place:
    """A membership on a bus that only remembers, and a capability that remembers who came and went."""

    topics: tuple[str, ...] = ()
    handlers: Mapping[type[Message], Handler] = {}

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.said: list[tuple[str, Message]] = []
        self.counts: Counter[str] = Counter()
        self.charged: list[tuple[str, Cost]] = []
        self.affords = True
        self.boundary = FaultBoundary(self.fault)
        bus: Any = self
        security = NullSecurity()
        self.publisher = Publisher(bus, security, "me", ME, "raw")
        self.publisher.run = "test"
        repair = RetransmissionService(self.publisher, 0.25, self.counts, bus)
        context = MembershipContext(bus, security, self.publisher, repair, self.charge, self.refused, self.counts)
        self.membership = Membership(Presence(info("me", ME), silence=3.0), context, [self])

    def publish(self, frames: Sequence[Buffer]) -> None:
        envelope = codec.decode([bytes(frame) for frame in frames])
        self.said.append((envelope.topic, envelope.message))

    def connect(self, address: str, name: str) -> None:
        self.done.append(("connect", address))

    def disconnect(self, address: str, name: str) -> None:
        self.done.append(("disconnect", address))

    def strand(self) -> None:
        self.done.append(("strand", ""))

    def refused(self, kind: str, why: str) -> None:
        self.counts[kind] += 1

    def fault(self, sender: str, kind: str, why: str) -> None:
        self.counts[kind] += 1

    def charge(self, payer: str, cost: Cost) -> bool:
        self.charged.append((payer, cost))
        return self.affords

    def linked(self, peer: PeerInfo) -> None:
        self.done.append(("linked", peer.name))

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        self.done.append(("left" if left else "lost", peer.name))

    def hear(self, sender: str, message: Message, incarnation: int = 1) -> None:
        handler = self.membership.handlers[type(message)]
        handler(Envelope(topics.inbox("me"), "test", sender, incarnation, 0, message), message)

    def link(self, name: str) -> None:
        self.hear(name, Hello(peer=info(name), receiver_incarnation=ME, members=(), latest={}))
        self.hear(name, Welcome(receiver_incarnation=ME))

    def told(self, name: str) -> list[Message]:
        return [message for topic, message in self.said if topic == topics.inbox(name)]


@pytest.fixture
async def place() -> Place:
    return Place()


async def test_who_is_heard_and_hears_us_is_linked_and_welcomed(place: Place) -> None:
    place.link("b")
    assert place.done == [("connect", "memory://b"), ("connect", "memory://b.heartbeat"), ("linked", "b")]
    assert Welcome(receiver_incarnation=1) in place.told("b")


async def test_a_hello_that_is_not_for_us_introduces_nobody(place: Place) -> None:
    place.hear("b", Hello(peer=info("b"), receiver_incarnation=ME - 1, members=(), latest={}))
    assert (place.done, place.said) == ([], [])
    assert place.counts == {"stale": 1}


async def test_a_greeting_names_everybody_in_as_many_messages_as_it_takes(place: Place) -> None:
    others = tuple(info(f"p{number:03}") for number in range(2 * MAX_MEMBERS_PER_HELLO))
    for start in range(0, len(others), MAX_MEMBERS_PER_HELLO):
        place.hear(
            "b",
            Hello(
                peer=info("b"),
                receiver_incarnation=ME,
                members=others[start : start + MAX_MEMBERS_PER_HELLO],
                latest={},
            ),
        )
    place.said.clear()
    place.membership.join_requested(knock(1), present=True)
    hellos = [message for message in place.told("c") if isinstance(message, Hello)]
    assert [len(hello.members) for hello in hellos] == [MAX_MEMBERS_PER_HELLO, MAX_MEMBERS_PER_HELLO, 1]
    assert {member for hello in hellos for member in hello.members} == {*others, info("b")}


async def test_a_knock_that_is_none_is_refused(place: Place) -> None:
    place.membership.join_requested(b"join/no/", present=True)
    assert (place.counts, place.done) == ({"malformed": 1}, [])


async def test_what_waits_for_the_lost_is_left_behind_and_of_who_left_nothing_is_kept(place: Place) -> None:
    place.link("b")
    place.link("c")
    place.done.clear()
    place.membership.bar("b", "enough")
    assert place.done == [("strand", ""), ("lost", "b")]
    place.done.clear()
    place.hear("c", Goodbye(reason="stopped"))
    assert ("left", "c") in place.done
    assert ("strand", "") not in place.done
    assert set(place.publisher.latest(["b", "c"])) <= {topics.inbox("b")}


async def test_the_lost_are_greeted_again_once_their_heart_beats(place: Place) -> None:
    place.link("b")
    place.membership.bar("b", "enough")
    place.said.clear()
    place.hear("b", Heartbeat(tick=5, latest={}, clock=0.0))
    assert [type(message) for message in place.told("b")] == [Hello]


async def test_who_has_not_heard_the_runs_name_says_nothing(place: Place) -> None:
    place.publisher.run = ""
    place.membership.join_requested(knock(1), present=True)
    assert place.said == []


def knock(incarnation: int) -> bytes:
    return topics.JoinRequest("c", incarnation, "test", "memory://c").topic.encode()


async def test_a_join_request_beyond_its_budget_waits_and_the_newest_is_followed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.affords = False
    for incarnation in (1, 2, 3):
        place.membership.join_requested(knock(incarnation), present=True)
    place.membership.sweep()
    assert (place.done, place.said) == ([], [])
    assert place.charged == [("c", Cost.JOIN_REQUESTS)] * 3
    place.affords = True
    now = membership._now()
    monkeypatch.setattr(membership, "_now", lambda: now + membership.JOIN_DELAY)
    place.membership.sweep()
    assert [message.receiver_incarnation for message in place.told("c") if isinstance(message, Hello)] == [3]


async def test_a_join_request_that_has_ended_waits_no_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.affords = False
    place.membership.join_requested(knock(1), present=True)
    place.membership.join_requested(knock(1), present=False)
    place.affords = True
    now = membership._now()
    monkeypatch.setattr(membership, "_now", lambda: now + membership.JOIN_DELAY)
    place.membership.sweep()
    assert (place.done, place.said) == ([], [])
