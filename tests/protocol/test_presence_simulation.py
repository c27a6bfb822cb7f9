"""The membership under loss and in any order of events: all are linked to all, and every bound holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.messages.presence import PeerInfo
from protocol.presence import ConnectTo, DisconnectFrom, Outcome, PeerDeparted, PeerLinked, Presence, SendHello


def info(name: str, incarnation: int = 1) -> PeerInfo:
    address = f"memory://{name}"
    return PeerInfo(
        name=name, incarnation=incarnation, role="client", address=address, heartbeat_address=f"{address}-heartbeat"
    )


def member(name: str = "me", max_peers: int = 256) -> Presence:
    return Presence(info(name), silence=3.0, broken=0.75, hang=30.0, hello_interval=0.25, max_peers=max_peers)


Connections = set[tuple[str, str]]
"""Of addresses and names."""


def follow(connected: Connections, outcomes: Iterable[Outcome]) -> None:
    """Updates the connections as a transport would."""
    for outcome in outcomes:
        if isinstance(outcome, ConnectTo):
            connected.add((outcome.address, outcome.name))
        elif isinstance(outcome, DisconnectFrom):
            connected.discard((outcome.address, outcome.name))


def test_no_more_join_requests_than_allowed_are_connected() -> None:
    presence = member(max_peers=3)
    outcomes = [out for n in range(50) for out in presence.join_request(f"p{n}", 1, f"memory://p{n}", 0.0)]
    assert len(outcomes) == 6
    assert len(presence._join_requests) == 3


def test_a_join_request_of_many_addresses_has_one_connection() -> None:
    presence, connected = member(), Connections()
    for number in range(50):
        follow(connected, presence.join_request("a", number, f"memory://a{number}", 0.0))
    assert connected == {("memory://a49", "a")}
    follow(connected, presence.connection_lost("a", 49))
    assert connected == set()


def test_guests_without_end_take_no_memory() -> None:
    presence = member(max_peers=4)
    for number in range(100):
        list(presence.hello(info(f"guest{number}"), [], float(number)))
        list(presence.welcome(f"guest{number}", 1, presence.me.incarnation, float(number)))
        assert f"guest{number}" in presence.linked()
        list(presence.goodbye(f"guest{number}", 1, "done"))
    assert len(presence._peers) <= 4


class Cluster:
    """Several members whose hellos and welcomes are lost and reordered; connections make join requests."""

    def __init__(self, count: int, joins: Callable[[int], int | None], drop: float, seed: int) -> None:
        self.faults = random.Random(seed)  # noqa: S311 - replayable faults, not secrets
        self.drop, self.now = drop, 0.0
        self.members = {f"n{index}": member(f"n{index}") for index in range(count)}
        self.connected_to: dict[str, set[str]] = {name: set() for name in self.members}
        self.in_flight: list[tuple[str, str, tuple[PeerInfo, ...]]] = []  # sender, receiver, members (none: a welcome)
        for index in range(count):
            if (through := joins(index)) is not None:
                self.connect(f"n{index}", f"n{through}")

    def connect(self, name: str, other: str) -> None:
        if other not in self.connected_to[name]:
            self.connected_to[name].add(other)
            self.execute(other, self.members[other].join_request(name, 1, f"memory://{name}", self.now))

    def execute(self, name: str, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, ConnectTo) and not outcome.address.endswith("-heartbeat"):
                self.connect(name, outcome.address.removeprefix("memory://"))
            elif isinstance(outcome, SendHello):
                self.in_flight.append((name, outcome.name, self.members[name].members()))

    def deliver(self, sender: str, receiver: str, members: tuple[PeerInfo, ...]) -> None:
        if sender not in self.connected_to[receiver] or self.faults.random() < self.drop:
            return
        there = self.members[receiver]
        if members:
            self.execute(receiver, there.hello(members[0], members[1:], self.now))
            self.in_flight.append((receiver, sender, ()))
        else:
            self.execute(receiver, there.welcome(sender, 1, 1, self.now))

    def pass_time(self) -> None:
        self.now += 0.05
        messages, self.in_flight = self.in_flight, []
        self.faults.shuffle(messages)
        for message in messages:
            self.deliver(*message)
        for name, presence in self.members.items():
            for other in self.connected_to[name]:
                self.execute(name, presence.heartbeat(other, 1, int(self.now * 20), self.now))
            self.execute(name, presence.sweep(self.now))

    def whole(self) -> bool:
        return all(len(presence.linked()) == len(self.members) - 1 for presence in self.members.values())


@given(count=st.integers(2, 8), drop=st.floats(0, 0.6), seed=st.integers(0, 2**16), data=st.data())
@settings(max_examples=30, deadline=None)
def test_from_any_one_address_each_all_are_linked_to_all_whatever_is_lost(
    count: int, drop: float, seed: int, data: st.DataObject
) -> None:
    """Every node joins through one earlier one (any tree); hellos and welcomes are lost and come in any order."""
    tree = [None, *(data.draw(st.integers(0, index - 1)) for index in range(1, count))]
    cluster = Cluster(count, tree.__getitem__, drop, seed)
    while not cluster.whole():
        cluster.pass_time()
        assert cluster.now < 60
    sizes = {len(presence.members()) for presence in cluster.members.values()}
    assert sizes == {count}


class AnyEvents(RuleBasedStateMachine):
    """Events in any order, from any incarnation: the bounds hold and what is reported makes sense."""

    def __init__(self) -> None:
        super().__init__()
        self.presence = member(max_peers=3)
        self.now = 0.0
        self.linked: dict[str, PeerInfo] = {}
        self.connected: Connections = set()

    names = st.sampled_from(["a", "b", "c", "d", "e", "me"])
    incarnations = st.integers(1, 3)

    def follow(self, outcomes: Iterable[Outcome]) -> None:
        outcomes = list(outcomes)
        follow(self.connected, outcomes)
        for outcome in outcomes:
            if isinstance(outcome, PeerLinked):
                assert outcome.peer.name not in self.linked
                self.linked[outcome.peer.name] = outcome.peer
            elif isinstance(outcome, PeerDeparted):
                self.linked.pop(outcome.peer.name, None)

    @rule(name=names, incarnation=incarnations, claimed=st.sampled_from(["", "a", "a-heartbeat", "b"]))
    def join_request(self, name: str, incarnation: int, claimed: str) -> None:
        self.follow(self.presence.join_request(name, incarnation, f"memory://{claimed or name}", self.now))

    @rule(name=names, incarnation=incarnations, other=names)
    def hello(self, name: str, incarnation: int, other: str) -> None:
        self.follow(self.presence.hello(info(name, incarnation), [info(other, incarnation)], self.now))

    @rule(name=names, incarnation=incarnations, ours=st.integers(0, 2))
    def welcome(self, name: str, incarnation: int, ours: int) -> None:
        self.follow(self.presence.welcome(name, incarnation, ours, self.now))

    @rule(name=names, incarnation=incarnations, tick=st.integers(0, 5))
    def heartbeat(self, name: str, incarnation: int, tick: int) -> None:
        self.follow(self.presence.heartbeat(name, incarnation, tick, self.now))

    @rule(name=names, incarnation=incarnations)
    def connection_lost(self, name: str, incarnation: int) -> None:
        self.follow(self.presence.connection_lost(name, incarnation))

    @rule(name=names, incarnation=incarnations)
    def goodbye(self, name: str, incarnation: int) -> None:
        self.follow(self.presence.goodbye(name, incarnation, "bye"))

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.follow(self.presence.sweep(self.now))

    @invariant()
    def linked_is_as_reported(self) -> None:
        assert self.presence.linked() == self.linked

    @invariant()
    def everything_is_bounded(self) -> None:
        assert len(self.presence._peers) <= 3
        assert len(self.presence._join_requests) <= 3
        assert len(self.connected) <= 3 * 2 + 3

    @invariant()
    def every_member_is_connected(self) -> None:
        for peer in self.presence.members()[1:]:
            assert {(peer.address, peer.name), (peer.heartbeat_address, peer.name)} <= self.connected


TestAnyEvents = AnyEvents.TestCase
TestAnyEvents.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
