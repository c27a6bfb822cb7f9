"""The membership: how peers join, link, are lost, come back and leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

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
        name=name, incarnation=incarnation, role="client", address=address, heartbeat_address=f"{address}-heartbeat"
    )


def member(name: str = "me", max_peers: int = 256) -> Presence:
    return Presence(info(name), silence=3.0, broken=0.75, hang=30.0, hello_interval=BEAT, max_peers=max_peers)


def link(presence: Presence, name: str, incarnation: int = 1, now: float = 0.0) -> list[Outcome]:
    """Links a peer."""
    outcomes = [*presence.hello(info(name, incarnation), [], now)]
    outcomes += presence.welcome(name, incarnation, presence.me.incarnation, now)
    assert presence.state(name) is PeerState.LINKED
    return outcomes


def swept(
    presence: Presence, start: float, end: float, beat: Callable[[float], Iterable[Outcome]] = lambda _now: ()
) -> list[tuple[float, Outcome]]:
    """The outcomes of sweeps from `start` to `end`, with `beat(now)` before each."""
    found = []
    for turn in range(round((end - start) / 0.05) + 1):
        now = start + turn * 0.05
        found += [(now, outcome) for outcome in (*beat(now), *presence.sweep(now))]
    return found


def departures(found: list[tuple[float, Outcome]]) -> list[tuple[float, str, str]]:
    return [(now, out.peer.name, out.reason) for now, out in found if isinstance(out, PeerDeparted)]


class TestHandshake:
    def test_a_join_request_is_answered_with_a_connection_and_a_hello(self) -> None:
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

    def test_a_welcome_of_an_earlier_incarnation_of_this_node_is_ignored(self) -> None:
        presence = member()
        list(presence.hello(info("a"), [], 0.0))
        assert list(presence.welcome("a", 1, presence.me.incarnation - 1, 0.0)) == []
        assert presence.state("a") is PeerState.KNOWN

    def test_a_hello_names_the_other_members(self) -> None:
        presence = member()
        outcomes = list(presence.hello(info("a"), [info("b"), info("me", 9), info("a", 0)], 0.0))
        assert [out.address for out in outcomes if isinstance(out, ConnectTo)] == [
            "memory://a", "memory://a-heartbeat", "memory://b", "memory://b-heartbeat",
        ]  # fmt: skip
        assert [peer.name for peer in presence.members()] == ["me", "a", "b"]

    def test_the_hello_is_repeated_until_it_is_welcomed(self) -> None:
        presence = member()
        list(presence.hello(info("a"), [], 0.0))
        hellos = [now for now, outcome in swept(presence, 0.0, 1.0) if outcome == SendHello("a")]
        assert hellos == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])
        list(presence.welcome("a", 1, 1, 1.0))
        found = swept(presence, 1.05, 3.9)
        assert [outcome for _, outcome in found] == [SendHello("a")]

    def test_hellos_are_repeated_for_a_new_member_and_from_time_to_time(self) -> None:
        presence = member()
        link(presence, "a")
        link(presence, "b")
        beat = lambda now: [*presence.heartbeat("a", 1, int(now * 20), now), *presence.heartbeat("b", 1, 1, now)]  # noqa: E731
        swept(presence, 0.0, 1.0, beat)
        list(presence.hello(info("c"), [], 1.05))
        list(presence.welcome("c", 1, 1, 1.05))
        assert {outcome for _, outcome in swept(presence, 1.05, 1.1, beat)} == {SendHello(name) for name in "abc"}
        later = [outcome for _, outcome in swept(presence, 1.15, 11.2, beat) if outcome == SendHello("a")]
        assert len(later) == 2

    def test_a_join_request_without_a_hello_expires(self) -> None:
        presence = member()
        list(presence.join_request("a", 1, "memory://a", 0.0))
        found = swept(presence, 0.0, JOIN_REQUEST_TIMEOUT + 1)
        assert found[-1][1] == DisconnectFrom("memory://a")
        assert found[-1][0] == pytest.approx(JOIN_REQUEST_TIMEOUT, abs=0.1)
        assert swept(presence, JOIN_REQUEST_TIMEOUT + 1, JOIN_REQUEST_TIMEOUT + 2) == []

    def test_it_is_no_peer_of_itself(self) -> None:
        assert [*member().join_request("me", 1, "memory://me", 0.0), *member().discover([info("me", 2)], 0.0)] == []


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

    def test_a_peer_with_long_gaps_has_a_longer_timeout(self) -> None:
        presence = member()
        link(presence, "a")
        slow = lambda now: presence.heartbeat("a", 1, int(now * 20), now) if round(now * 20) % 12 == 0 else ()  # noqa: E731
        swept(presence, 0.0, 60.0, slow)
        assert departures(swept(presence, 60.05, 61.75)) == []
        assert len(departures(swept(presence, 61.8, 61.9))) == 1

    def test_a_pause_of_this_node_does_not_change_the_timeout(self) -> None:
        presence = member()
        link(presence, "a")
        beat = lambda now: presence.heartbeat("a", 1, int(now * 20), now)  # noqa: E731
        swept(presence, 0.0, 10.0, beat)
        list(beat(12.0))
        swept(presence, 12.0, 13.0, beat)
        assert [now for now, *_ in departures(swept(presence, 13.05, 14.0))] == pytest.approx([13.8])

    def test_a_known_peer_is_lost_like_a_linked_one(self) -> None:
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

    def test_lost_peers_stay_connected_until_their_connection_breaks_or_they_are_heard(self) -> None:
        presence = member()
        link(presence, "a")
        link(presence, "b")
        link(presence, "c")
        list(presence.connection_lost("c", 1))
        assert presence.lost_but_connected() == ()
        assert len(departures(swept(presence, 0.0, 4.0))) == 3
        assert presence.lost_but_connected() == ("a", "b")
        list(presence.connection_lost("a", 2))  # of another incarnation
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

    def test_a_broken_connection_of_an_earlier_incarnation_is_ignored(self) -> None:
        presence = member()
        link(presence, "a", incarnation=2)
        list(presence.connection_lost("a", 1))
        assert departures(swept(presence, 0.0, 2.9)) == []

    def test_a_loop_that_stands_still_is_a_loss_despite_heartbeats(self) -> None:
        presence = member()
        link(presence, "a")
        found = swept(presence, 0.0, 31.0, lambda now: presence.heartbeat("a", 1, 7, now))
        ((now, _, reason),) = departures(found)
        assert now == pytest.approx(30.05)
        assert "stood still" in reason
        assert list(presence.heartbeat("a", 1, 7, 32.0)) == []
        assert list(presence.heartbeat("a", 1, 8, 33.0)) == [SendHello("a")]

    def test_a_pause_of_this_node_is_no_loss_of_its_peers(self) -> None:
        presence = member()
        link(presence, "a")
        list(presence.sweep(0.0))
        assert departures([(60.0, outcome) for outcome in presence.sweep(60.0)]) == []
        assert departures(swept(presence, 60.05, 62.9)) == []
        assert len(departures(swept(presence, 62.95, 63.2))) == 1

    def test_a_quarantined_peer_is_lost_until_it_is_heard(self) -> None:
        presence = member()
        link(presence, "a")
        assert list(presence.bar("a", "quarantined")) == [PeerDeparted(info("a"), "quarantined", graceful=False)]
        assert [*presence.bar("a", "again"), *presence.bar("nobody", "unknown")] == []
        assert presence.state("a") is PeerState.LOST
        assert list(presence.heartbeat("a", 1, 8, 33.0)) == [SendHello("a")]


class TestComingBack:
    def lost(self) -> Presence:
        presence = member()
        link(presence, "a")
        list(presence.heartbeat("a", 1, 7, 0.0))
        assert departures(swept(presence, 0.0, 3.2))
        return presence

    def test_a_lost_peer_that_is_heard_is_linked_by_its_welcome(self) -> None:
        presence = self.lost()
        assert list(presence.heartbeat("a", 1, 8, 5.0)) == [SendHello("a")]
        assert presence.state("a") is PeerState.KNOWN
        assert list(presence.welcome("a", 1, 1, 5.1)) == [PeerLinked(info("a"))]

    def test_a_late_heartbeat_without_progress_is_ignored(self) -> None:
        presence = self.lost()
        assert list(presence.heartbeat("a", 1, 7, 5.0)) == []
        assert presence.state("a") is PeerState.LOST

    def test_a_lost_peer_stays_connected_after_its_join_request_expires(self) -> None:
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
            DisconnectFrom("memory://a-heartbeat"),
            ConnectTo("memory://elsewhere"),
            ConnectTo("memory://elsewhere-heartbeat"),
        ]
        assert list(presence.welcome("a", 2, 1, 1.0)) == [PeerLinked(new)]

    def test_a_new_incarnation_of_a_lost_peer_is_no_second_loss(self) -> None:
        presence = self.lost()
        assert not any(isinstance(outcome, PeerDeparted) for outcome in presence.hello(info("a", 2), [], 5.0))

    def test_every_event_of_a_stale_incarnation_is_ignored(self) -> None:
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
    def test_a_goodbye_departs_and_disconnects_at_once(self) -> None:
        presence = member()
        link(presence, "a")
        assert list(presence.goodbye("a", 1, "stopped")) == [
            PeerDeparted(info("a"), "stopped", graceful=True),
            DisconnectFrom("memory://a"),
            DisconnectFrom("memory://a-heartbeat"),
        ]
        assert presence.members() == (presence.me,)

    def test_a_peer_that_left_comes_back_as_another_incarnation_only(self) -> None:
        presence = member()
        link(presence, "a")
        list(presence.goodbye("a", 1, "stopped"))
        assert [*presence.heartbeat("a", 1, 9, 1.0), *presence.hello(info("a"), [], 1.0)] == []
        assert list(presence.discover([info("a")], 1.0)) == []
        assert any(isinstance(outcome, PeerLinked) for outcome in link(presence, "a", incarnation=2, now=2.0))

    def test_a_relay_behind_which_another_peer_is_stays_connected(self) -> None:
        presence = member()
        for name in ("a", "b"):
            list(presence.hello(info(name, address="hub@memory://h"), [], 0.0))
        left = list(presence.goodbye("a", 1, "stopped"))
        assert DisconnectFrom("hub@memory://h") not in left
        assert DisconnectFrom("hub@memory://h") in list(presence.goodbye("b", 1, "stopped"))


class TestBounds:
    def test_no_more_peers_than_allowed_are_kept(self) -> None:
        presence = member(max_peers=3)
        outcomes = list(presence.discover([info(f"p{number}") for number in range(50)], 0.0))
        assert len(outcomes) == 6
        assert len(presence.members()) == 4

    def test_departed_peers_make_room_those_that_left_first(self) -> None:
        presence = member(max_peers=2)
        link(presence, "a", now=0.0)
        link(presence, "b", now=1.0)
        list(presence.goodbye("b", 1, "done"))
        swept(presence, 1.0, 5.0)
        assert (presence.state("a"), presence.state("b")) == (PeerState.LOST, PeerState.LEFT)
        list(presence.discover([info("c")], 5.0))
        assert (presence.state("b"), presence.state("c")) == (None, PeerState.KNOWN)
        outcomes = list(presence.discover([info("d")], 5.0))
        assert outcomes[:2] == [DisconnectFrom("memory://a"), DisconnectFrom("memory://a-heartbeat")]
        assert presence.state("a") is None

    def test_a_join_request_cannot_disconnect_a_peer(self) -> None:
        presence = member()
        link(presence, "victim")
        list(presence.join_request("a", 1, "memory://victim", 0.0))
        ended = [outcome for outcome in presence.connection_lost("a", 1) if isinstance(outcome, DisconnectFrom)]
        assert [(outcome.address, outcome.name) for outcome in ended] == [("memory://victim", "a")], "its own claim"
