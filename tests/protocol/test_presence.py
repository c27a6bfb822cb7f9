"""The membership: how peers meet, link, fall silent, come back and leave, under loss and in any order."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.messages.presence import PeerInfo
from protocol.presence import (
    JOIN_REQUEST_TIMEOUT,
    ConnectTo,
    DisconnectFrom,
    Outcome,
    PeerDeparted,
    PeerLinked,
    PeerState,
    Presence,
    SendHello,
)

BEAT = 0.25


def info(name: str, incarnation: int = 1, address: str = "") -> PeerInfo:
    address = address or f"memory://{name}"
    return PeerInfo(
        name=name, incarnation=incarnation, role="client", address=address, heartbeat_address=f"{address}-pulse"
    )


def member(name: str = "me", most: int = 256) -> Presence:
    return Presence(info(name), silence=3.0, broken=0.75, hang=30.0, greet_every=BEAT, most=most)


def link(presence: Presence, name: str, incarnation: int = 1, now: float = 0.0) -> list[Outcome]:
    """Brings a peer from nothing to linked."""
    outcomes = [*presence.hello(info(name, incarnation), [], now)]
    outcomes += presence.welcome(name, incarnation, presence.me.incarnation, now)
    assert presence.state(name) is PeerState.LINKED
    return outcomes


def swept(
    presence: Presence, start: float, end: float, beat: Callable[[float], Iterable[Outcome]] = lambda _now: ()
) -> list[tuple[float, Outcome]]:
    """What sweeping from `start` to `end` brings, with `beat(now)` before each sweep."""
    found = []
    for turn in range(round((end - start) / 0.05) + 1):
        now = start + turn * 0.05
        found += [(now, outcome) for outcome in (*beat(now), *presence.sweep(now))]
    return found


def departures(found: list[tuple[float, Outcome]]) -> list[tuple[float, str, str]]:
    return [(now, out.peer.name, out.reason) for now, out in found if isinstance(out, PeerDeparted)]


class TestHandshake:
    def test_a_knock_is_answered_with_a_connection_and_a_hello(self) -> None:
        presence = member()
        assert list(presence.join_request("a", 1, "memory://a", 0.0)) == [ConnectTo("memory://a"), SendHello("a")]
        assert presence.state("a") is None

    @pytest.mark.parametrize("hello_first", [True, False])
    def test_linked_takes_both_a_hello_and_a_welcome(self, hello_first: bool) -> None:
        presence = member()
        list(presence.discover([info("a")], 0.0))
        steps = [lambda: presence.hello(info("a"), [], 0.1), lambda: presence.welcome("a", 1, 1, 0.1)]
        first, second = steps if hello_first else reversed(steps)
        assert list(first()) == []
        assert presence.linked() == {}
        assert list(second()) == [PeerLinked(info("a"))]
        assert presence.linked() == {"a": info("a")}
        assert [*first(), *second()] == []

    def test_a_welcome_of_an_earlier_life_of_ours_counts_nothing(self) -> None:
        presence = member()
        list(presence.hello(info("a"), [], 0.0))
        assert list(presence.welcome("a", 1, presence.me.incarnation - 1, 0.0)) == []
        assert presence.state("a") is PeerState.KNOWN

    def test_a_hello_names_everybody_else(self) -> None:
        presence = member()
        outcomes = list(presence.hello(info("a"), [info("b"), info("me", 9), info("a", 0)], 0.0))
        assert [out.address for out in outcomes if isinstance(out, ConnectTo)] == [
            "memory://a", "memory://a-pulse", "memory://b", "memory://b-pulse",
        ]  # fmt: skip
        assert [peer.name for peer in presence.members()] == ["me", "a", "b"]

    def test_the_hello_is_repeated_until_it_is_welcomed(self) -> None:
        presence = member()
        list(presence.hello(info("a"), [], 0.0))
        greeted = [now for now, outcome in swept(presence, 0.0, 1.0) if outcome == SendHello("a")]
        assert greeted == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])
        list(presence.welcome("a", 1, 1, 1.0))
        found = swept(presence, 1.05, 3.9)
        assert [outcome for _, outcome in found] == [SendHello("a")]

    def test_everybody_is_told_of_a_newcomer_and_reminded_now_and_then(self) -> None:
        presence = member()
        link(presence, "a")
        link(presence, "b")
        beat = lambda now: [*presence.heartbeat("a", 1, int(now * 20), now), *presence.heartbeat("b", 1, 1, now)]  # noqa: E731
        swept(presence, 0.0, 1.0, beat)
        list(presence.hello(info("c"), [], 1.05))
        list(presence.welcome("c", 1, 1, 1.05))
        assert sorted(outcome.name for _, outcome in swept(presence, 1.05, 1.1, beat)) == ["a", "b", "c"]
        later = [outcome for _, outcome in swept(presence, 1.15, 11.2, beat) if outcome == SendHello("a")]
        assert len(later) == 2

    def test_a_caller_that_says_nothing_is_greeted_for_a_while_and_then_forgotten(self) -> None:
        presence = member()
        list(presence.join_request("a", 1, "memory://a", 0.0))
        found = swept(presence, 0.0, JOIN_REQUEST_TIMEOUT + 1)
        assert found[-1][1] == DisconnectFrom("memory://a")
        assert found[-1][0] == pytest.approx(JOIN_REQUEST_TIMEOUT, abs=0.1)
        assert swept(presence, JOIN_REQUEST_TIMEOUT + 1, JOIN_REQUEST_TIMEOUT + 2) == []

    def test_it_never_meets_itself(self) -> None:
        presence = member()
        assert [*presence.join_request("me", 1, "memory://me", 0.0), *presence.discover([info("me", 2)], 0.0)] == []


class TestLosses:
    def test_silence_is_a_loss_after_its_time_and_not_before(self) -> None:
        presence = member()
        link(presence, "a")
        assert departures(swept(presence, 0.0, 3.0)) == []
        ((now, name, reason),) = departures(swept(presence, 3.05, 4.0))
        assert now == pytest.approx(3.05)
        assert (name, reason) == ("a", "silent for 3.0 s")
        assert presence.state("a") is PeerState.LOST
        assert presence.linked() == {}

    def test_a_silence_after_regular_heartbeats_is_a_loss_within_a_second(self) -> None:
        presence = member()
        link(presence, "a")
        beats = lambda now: presence.heartbeat("a", 1, int(now * 20), now) if round(now * 20) % 5 == 0 else ()  # noqa: E731
        assert departures(swept(presence, 0.0, 20.0, beats)) == []
        ((now, _, reason),) = departures(swept(presence, 20.05, 21.0))
        assert now == pytest.approx(20.8)
        assert reason == "silent for 0.8 s"

    def test_who_has_had_long_gaps_before_is_given_more_time(self) -> None:
        presence = member()
        link(presence, "a")
        slow = lambda now: presence.heartbeat("a", 1, int(now * 20), now) if round(now * 20) % 12 == 0 else ()  # noqa: E731
        swept(presence, 0.0, 60.0, slow)
        assert departures(swept(presence, 60.05, 61.75)) == []
        assert len(departures(swept(presence, 61.8, 61.9))) == 1

    def test_heartbeats_that_waited_while_this_node_stood_still_teach_it_nothing(self) -> None:
        presence = member()
        link(presence, "a")
        beat = lambda now: presence.heartbeat("a", 1, int(now * 20), now)  # noqa: E731
        swept(presence, 0.0, 10.0, beat)
        list(beat(12.0))
        swept(presence, 12.0, 13.0, beat)
        assert [now for now, *_ in departures(swept(presence, 13.05, 14.0))] == pytest.approx([13.8])

    def test_who_is_only_met_is_lost_like_anybody(self) -> None:
        presence = member()
        list(presence.discover([info("a")], 0.0))
        assert [name for _, name, _ in departures(swept(presence, 0.0, 3.2))] == ["a"]

    def test_heartbeats_keep_a_peer(self) -> None:
        presence = member()
        link(presence, "a")
        found = swept(presence, 0.0, 20.0, lambda now: presence.heartbeat("a", 1, int(now * 20), now))
        assert departures(found) == []

    def test_a_broken_connection_is_a_loss_sooner(self) -> None:
        presence = member()
        link(presence, "a")
        assert list(presence.connection_lost("a", 1)) == []
        ((now, _, reason),) = departures(swept(presence, 0.0, 2.0))
        assert now == pytest.approx(0.8)
        assert reason.startswith("its connection broke")

    def test_the_lost_linger_until_their_connection_breaks_or_they_are_heard_again(self) -> None:
        presence = member()
        link(presence, "a")
        link(presence, "b")
        link(presence, "c")
        list(presence.connection_lost("c", 1))
        assert presence.lost_but_connected() == ()
        assert len(departures(swept(presence, 0.0, 4.0))) == 3
        assert presence.lost_but_connected() == ("a", "b")
        list(presence.connection_lost("a", 2))  # of another life
        assert presence.lost_but_connected() == ("a", "b")
        list(presence.connection_lost("a", 1))
        list(presence.heartbeat("b", 1, 9, 4.1))
        assert presence.lost_but_connected() == ()

    def test_a_broken_connection_that_comes_back_is_forgiven(self) -> None:
        presence = member()
        link(presence, "a")
        list(presence.connection_lost("a", 1))
        assert list(presence.join_request("a", 1, "memory://a", 0.5)) == [SendHello("a")]
        assert departures(swept(presence, 0.5, 3.4)) == []

    def test_a_broken_connection_of_an_earlier_life_means_nothing(self) -> None:
        presence = member()
        link(presence, "a", incarnation=2)
        list(presence.connection_lost("a", 1))
        assert departures(swept(presence, 0.0, 2.9)) == []

    def test_a_loop_that_stands_still_is_a_loss_though_its_heart_beats(self) -> None:
        presence = member()
        link(presence, "a")
        found = swept(presence, 0.0, 31.0, lambda now: presence.heartbeat("a", 1, 7, now))
        ((now, _, reason),) = departures(found)
        assert now == pytest.approx(30.05)
        assert "stood still" in reason
        assert list(presence.heartbeat("a", 1, 7, 32.0)) == []
        assert list(presence.heartbeat("a", 1, 8, 33.0)) == [SendHello("a")]

    def test_a_node_that_stood_still_itself_blames_nobody(self) -> None:
        presence = member()
        link(presence, "a")
        list(presence.sweep(0.0))
        assert departures([(60.0, outcome) for outcome in presence.sweep(60.0)]) == []
        assert departures(swept(presence, 60.05, 62.9)) == []
        assert len(departures(swept(presence, 62.95, 63.2))) == 1

    def test_who_is_barred_is_lost_until_it_is_heard_again(self) -> None:
        presence = member()
        link(presence, "a")
        assert list(presence.quarantine("a", "quarantined")) == [PeerDeparted(info("a"), "quarantined", graceful=False)]
        assert [*presence.quarantine("a", "again"), *presence.quarantine("nobody", "what for")] == []
        assert presence.state("a") is PeerState.LOST
        assert list(presence.heartbeat("a", 1, 8, 33.0)) == [SendHello("a")]


class TestComingBack:
    def lost(self) -> Presence:
        presence = member()
        link(presence, "a")
        list(presence.heartbeat("a", 1, 7, 0.0))
        assert departures(swept(presence, 0.0, 3.2))
        return presence

    def test_who_is_heard_again_is_greeted_and_linked_by_its_welcome(self) -> None:
        presence = self.lost()
        assert list(presence.heartbeat("a", 1, 8, 5.0)) == [SendHello("a")]
        assert presence.state("a") is PeerState.KNOWN
        assert list(presence.welcome("a", 1, 1, 5.1)) == [PeerLinked(info("a"))]

    def test_a_late_heartbeat_without_progress_raises_nobody(self) -> None:
        presence = self.lost()
        assert list(presence.heartbeat("a", 1, 7, 5.0)) == []
        assert presence.state("a") is PeerState.LOST

    def test_a_lost_peer_that_knocks_and_stays_dumb_is_still_heard_afterwards(self) -> None:
        presence = self.lost()
        list(presence.join_request("a", 1, "memory://a", 5.0))
        found = swept(presence, 5.0, 5.0 + JOIN_REQUEST_TIMEOUT + 1)
        assert not any(isinstance(outcome, DisconnectFrom) for _, outcome in found)

    def test_a_new_incarnation_takes_the_place_of_the_old_one(self) -> None:
        presence = member()
        link(presence, "a")
        new = info("a", 2, "memory://elsewhere")
        outcomes = list(presence.hello(new, [], 1.0))
        assert outcomes == [
            PeerDeparted(info("a"), "came back as a new incarnation", graceful=False),
            DisconnectFrom("memory://a"),
            DisconnectFrom("memory://a-pulse"),
            ConnectTo("memory://elsewhere"),
            ConnectTo("memory://elsewhere-pulse"),
        ]
        assert list(presence.welcome("a", 2, 1, 1.0)) == [PeerLinked(new)]

    def test_a_new_incarnation_of_a_lost_peer_is_no_second_loss(self) -> None:
        presence = self.lost()
        assert not any(isinstance(outcome, PeerDeparted) for outcome in presence.hello(info("a", 2), [], 5.0))

    def test_a_stale_incarnation_is_refused_whatever_it_says(self) -> None:
        presence = member()
        link(presence, "a", incarnation=5)
        stale = [
            *presence.join_request("a", 4, "memory://old", 1.0),
            *presence.discover([info("a", 4)], 1.0),
            *presence.hello(info("a", 4), [info("b")], 1.0),
            *presence.welcome("a", 4, 1, 1.0),
            *presence.heartbeat("a", 4, 99, 1.0),
            *presence.goodbye("a", 4, "bye"),
        ]
        assert stale == []
        assert presence.is_current("a", 5)
        assert not presence.is_current("a", 4)
        assert presence.state("b") is None


class TestGoodbye:
    def test_who_leaves_is_gone_at_once_and_its_connection_with_it(self) -> None:
        presence = member()
        link(presence, "a")
        assert list(presence.goodbye("a", 1, "stopped")) == [
            PeerDeparted(info("a"), "stopped", graceful=True),
            DisconnectFrom("memory://a"),
            DisconnectFrom("memory://a-pulse"),
        ]
        assert presence.members() == (presence.me,)

    def test_who_left_does_not_come_back_as_the_same(self) -> None:
        presence = member()
        link(presence, "a")
        list(presence.goodbye("a", 1, "stopped"))
        assert [*presence.heartbeat("a", 1, 9, 1.0), *presence.hello(info("a"), [], 1.0)] == []
        assert list(presence.discover([info("a")], 1.0)) == []
        assert any(isinstance(outcome, PeerLinked) for outcome in link(presence, "a", incarnation=2, now=2.0))

    def test_an_address_that_another_peer_uses_is_kept(self) -> None:
        presence = member()
        link(presence, "a")
        list(presence.hello(info("b", address="memory://a"), [], 0.0))
        assert list(presence.goodbye("a", 1, "renamed")) == [PeerDeparted(info("a"), "renamed", graceful=True)]


class TestBounds:
    def test_no_more_peers_than_allowed_are_kept(self) -> None:
        presence = member(most=3)
        outcomes = list(presence.discover([info(f"p{number}") for number in range(50)], 0.0))
        assert len(outcomes) == 6
        assert len(presence.members()) == 4

    def test_who_is_gone_makes_room_those_who_left_first(self) -> None:
        presence = member(most=2)
        link(presence, "a", now=0.0)
        link(presence, "b", now=1.0)
        list(presence.goodbye("b", 1, "done"))
        swept(presence, 1.0, 5.0)
        assert (presence.state("a"), presence.state("b")) == (PeerState.LOST, PeerState.LEFT)
        list(presence.discover([info("c")], 5.0))
        assert (presence.state("b"), presence.state("c")) == (None, PeerState.KNOWN)
        outcomes = list(presence.discover([info("d")], 5.0))
        assert outcomes[:2] == [DisconnectFrom("memory://a"), DisconnectFrom("memory://a-pulse")]
        assert presence.state("a") is None

    def test_visitors_may_come_and_go_without_end(self) -> None:
        presence = member(most=4)
        for number in range(100):
            link(presence, f"guest{number}", now=float(number))
            list(presence.goodbye(f"guest{number}", 1, "done"))
        assert len(presence._peers) <= 4

    def test_no_more_callers_than_allowed_are_called_back(self) -> None:
        presence = member(most=3)
        outcomes = [out for n in range(50) for out in presence.join_request(f"p{n}", 1, f"memory://p{n}", 0.0)]
        assert len(outcomes) == 6
        assert len(presence._join_requests) == 3

    def test_a_caller_of_many_addresses_holds_one_connection(self) -> None:
        presence, connected = member(), set[str]()
        for number in range(50):
            follow(connected, presence.join_request("a", number, f"memory://a{number}", 0.0))
        assert connected == {"memory://a49"}
        follow(connected, presence.connection_lost("a", 49))
        assert connected == set()

    def test_a_caller_cannot_have_a_peer_disconnected(self) -> None:
        presence = member()
        link(presence, "victim")
        list(presence.join_request("a", 1, "memory://victim", 0.0))
        assert list(presence.connection_lost("a", 1)) == []


def follow(connected: set[str], outcomes: Iterable[Outcome]) -> None:
    """Keeps book of the connections as a bus would."""
    for outcome in outcomes:
        if isinstance(outcome, ConnectTo):
            connected.add(outcome.address)
        elif isinstance(outcome, DisconnectFrom):
            connected.discard(outcome.address)


class World:
    """Several members whose hellos and welcomes are lost and reordered; what is connected is told by knocks."""

    def __init__(self, count: int, joins: Callable[[int], int | None], drop: float, seed: int) -> None:
        self.trouble = random.Random(seed)  # noqa: S311 - replayable trouble, not secrets
        self.drop, self.now = drop, 0.0
        self.members = {f"n{index}": member(f"n{index}") for index in range(count)}
        self.hears: dict[str, set[str]] = {name: set() for name in self.members}
        self.flying: list[tuple[str, str, tuple[PeerInfo, ...]]] = []  # sender, receiver, members (none: a welcome)
        for index in range(count):
            if (through := joins(index)) is not None:
                self.connect(f"n{index}", f"n{through}")

    def connect(self, name: str, other: str) -> None:
        if other not in self.hears[name]:
            self.hears[name].add(other)
            self.obey(other, self.members[other].join_request(name, 1, f"memory://{name}", self.now))

    def obey(self, name: str, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, ConnectTo) and not outcome.address.endswith("-pulse"):
                self.connect(name, outcome.address.removeprefix("memory://"))
            elif isinstance(outcome, SendHello):
                self.flying.append((name, outcome.name, self.members[name].members()))

    def deliver(self, sender: str, receiver: str, members: tuple[PeerInfo, ...]) -> None:
        if sender not in self.hears[receiver] or self.trouble.random() < self.drop:
            return
        there = self.members[receiver]
        if members:
            self.obey(receiver, there.hello(members[0], members[1:], self.now))
            self.flying.append((receiver, sender, ()))
        else:
            self.obey(receiver, there.welcome(sender, 1, 1, self.now))

    def pass_time(self) -> None:
        self.now += 0.05
        flying, self.flying = self.flying, []
        self.trouble.shuffle(flying)
        for message in flying:
            self.deliver(*message)
        for name, presence in self.members.items():
            for other in self.hears[name]:
                self.obey(name, presence.heartbeat(other, 1, int(self.now * 20), self.now))
            self.obey(name, presence.sweep(self.now))

    def whole(self) -> bool:
        return all(len(presence.linked()) == len(self.members) - 1 for presence in self.members.values())


@given(count=st.integers(2, 8), drop=st.floats(0, 0.6), seed=st.integers(0, 2**16), data=st.data())
@settings(max_examples=30, deadline=None)
def test_from_any_one_address_each_all_are_linked_to_all_whatever_is_lost(
    count: int, drop: float, seed: int, data: st.DataObject
) -> None:
    """Every node joins through one earlier one (any tree); hellos and welcomes are lost and come in any order."""
    tree = [None, *(data.draw(st.integers(0, index - 1)) for index in range(1, count))]
    world = World(count, tree.__getitem__, drop, seed)
    while not world.whole():
        world.pass_time()
        assert world.now < 60
    sizes = {len(presence.members()) for presence in world.members.values()}
    assert sizes == {count}


class Anything(RuleBasedStateMachine):
    """Events in any order, from any incarnation: the bounds hold and what is reported makes sense."""

    def __init__(self) -> None:
        super().__init__()
        self.presence = member(most=3)
        self.now = 0.0
        self.linked: dict[str, PeerInfo] = {}
        self.connected: set[str] = set()

    names = st.sampled_from(["a", "b", "c", "d", "e", "me"])
    lives = st.integers(1, 3)

    def told(self, outcomes: Iterable[Outcome]) -> None:
        outcomes = list(outcomes)
        follow(self.connected, outcomes)
        for outcome in outcomes:
            if isinstance(outcome, PeerLinked):
                assert outcome.peer.name not in self.linked
                self.linked[outcome.peer.name] = outcome.peer
            elif isinstance(outcome, PeerDeparted):
                self.linked.pop(outcome.peer.name, None)

    @rule(name=names, life=lives)
    def knock(self, name: str, life: int) -> None:
        self.told(self.presence.join_request(name, life, f"memory://{name}", self.now))

    @rule(name=names, life=lives, other=names)
    def hello(self, name: str, life: int, other: str) -> None:
        self.told(self.presence.hello(info(name, life), [info(other, life)], self.now))

    @rule(name=names, life=lives, ours=st.integers(0, 2))
    def welcome(self, name: str, life: int, ours: int) -> None:
        self.told(self.presence.welcome(name, life, ours, self.now))

    @rule(name=names, life=lives, tick=st.integers(0, 5))
    def heartbeat(self, name: str, life: int, tick: int) -> None:
        self.told(self.presence.heartbeat(name, life, tick, self.now))

    @rule(name=names, life=lives)
    def breaks(self, name: str, life: int) -> None:
        self.told(self.presence.connection_lost(name, life))

    @rule(name=names, life=lives)
    def goodbye(self, name: str, life: int) -> None:
        self.told(self.presence.goodbye(name, life, "bye"))

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.told(self.presence.sweep(self.now))

    @invariant()
    def linked_is_what_was_reported(self) -> None:
        assert self.presence.linked() == self.linked

    @invariant()
    def everything_is_bounded(self) -> None:
        assert len(self.presence._peers) <= 3
        assert len(self.presence._join_requests) <= 3
        assert len(self.connected) <= 3 * 2 + 3

    @invariant()
    def every_member_is_connected(self) -> None:
        for peer in self.presence.members()[1:]:
            assert {peer.address, peer.heartbeat_address} <= self.connected


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
