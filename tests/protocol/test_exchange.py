"""Exchanges: any order of events gives the same record, and a departure at any point does not keep it open."""

from __future__ import annotations

import itertools
from math import inf
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocol.exchange import ExchangeTracker
from protocol.messages.exchange import OfferList
from protocol.quorum import DeadlineEstimator, QuorumPolicy

Event = tuple[str, ...]

WAIT = QuorumPolicy(hard_limit=100.0)
HASTY = QuorumPolicy(kind="survivors", quorum=2, hard_limit=100.0, cold_start=5.0, floor=1.0)


def offering(name: str) -> OfferList:
    return OfferList(key="k", versions={f"of {name}": 1}, values={}, bytes_sent=len(name))


def opened(*names: str, policy: QuorumPolicy = WAIT) -> ExchangeTracker:
    return ExchangeTracker.open(names, 0.0, policy, (DeadlineEstimator(policy), DeadlineEstimator(policy)))


def play(exchange: ExchangeTracker, event: Event, now: float) -> None:
    match event:
        case ("offers", name):
            exchange.offered(name, offering(name), now)
        case ("absorbs", name, origin):
            exchange.absorbed(name, origin, {}, now)
        case ("dies", name):
            exchange.lose(name, "lost: silent", now)
        case ("declines", name):
            exchange.lose(name, "declined: no", now)


def all_events(names: tuple[str, ...], declines: frozenset[str] = frozenset()) -> list[Event]:
    """All events of an exchange without departures."""
    trades = [name for name in names if name not in declines]
    said: list[Event] = [("declines" if name in declines else "offers", name) for name in names]
    return said + [("absorbs", *pair) for pair in itertools.permutations(trades, 2)]


def record(exchange: ExchangeTracker) -> Any:
    taken = {name: sorted(exchange.verdicts.get(name, {})) for name in exchange.offers}
    return sorted(exchange.offers), taken, exchange.late(99.0), exchange.lost()


@given(names=st.integers(1, 5), declining=st.integers(0, 4), chance=st.randoms(use_true_random=False))
def test_any_order_of_events_gives_the_same_record_and_closes_with_the_last(
    names: int, declining: int, chance: Random
) -> None:
    peers = tuple(f"p{index}" for index in range(names))
    declines = frozenset(peers[:declining]) if declining < names else frozenset()
    events = all_events(peers, declines)
    chance.shuffle(events)
    exchange, straight = opened(*peers), opened(*peers)
    for now, event in enumerate(events):
        assert not exchange.progress(float(now)).closed, "something is still to come"
        play(exchange, event, float(now))
    for event in all_events(peers, declines):
        play(straight, event, 0.0)
    assert exchange.progress(50.0).closed
    assert exchange.progress(50.0).quorate
    straight.progress(50.0)
    assert record(exchange) == record(straight)
    assert record(exchange)[2:] == ((), dict.fromkeys(sorted(declines), "declined: no"))


@given(dead=st.sampled_from([("p0",), ("p0", "p2")]), chance=st.randoms(use_true_random=False))
def test_a_death_at_any_point_keeps_nobody_waiting(dead: tuple[str, ...], chance: Random) -> None:
    peers = ("p0", "p1", "p2", "p3")
    events = all_events(peers)
    chance.shuffle(events)
    for when in range(len(events) + 1):
        exchange = opened(*peers)
        for now, event in enumerate(events[:when]):
            play(exchange, event, float(now))
            exchange.progress(float(now))
        for name in dead:
            play(exchange, ("dies", name), 20.0)
        for event in events[when:]:
            exchange.progress(30.0)
            if event[1] not in dead and not (event[0] == "absorbs" and event[2] in dead):
                play(exchange, event, 30.0)
        stand = exchange.progress(40.0)
        assert (stand.closed, stand.quorate) == (True, True)
        assert exchange.late(40.0) == ()
        survivors = set(peers) - set(dead)
        assert survivors <= exchange.offers.keys()
        assert all(survivors - {name} <= exchange.verdicts[name].keys() for name in survivors)
        assert set(exchange.lost()) <= set(dead)


def test_when_all_but_one_die_nothing_is_left_to_absorb() -> None:
    exchange = opened("a", "b", "c")
    for event in all_events(("a", "b", "c"))[:3]:
        play(exchange, event, 1.0)
    assert exchange.progress(1.0).absorbing
    play(exchange, ("dies", "a"), 3.0)
    assert not exchange.progress(3.0).closed, "b and c have each other's to absorb"
    play(exchange, ("dies", "b"), 4.0)
    assert exchange.progress(4.0).closed
    assert exchange.progress(4.0).quorate
    assert exchange.lost() == {"a": "lost: silent", "b": "lost: silent"}


def test_when_nobody_absorbs_it_closes_without_a_quorum() -> None:
    exchange = opened("a", "b")
    for event in all_events(("a", "b"))[:2]:
        play(exchange, event, 1.0)
    assert not exchange.progress(1.0).closed
    stand = exchange.progress(101.0)
    assert (stand.closed, stand.quorate, exchange.late(101.0)) == (True, False, ("a", "b"))


def test_without_peers_there_is_no_quorum() -> None:
    stand = opened().progress(0.0)
    assert (stand.closed, stand.quorate) == (True, False)


def test_everybody_declines() -> None:
    exchange = opened("a", "b")
    play(exchange, ("declines", "a"), 1.0)
    assert not exchange.progress(1.0).closed
    play(exchange, ("declines", "b"), 1.0)
    stand = exchange.progress(1.0)
    assert (stand.closed, stand.quorate, exchange.lost()) == (True, False, {"a": "declined: no", "b": "declined: no"})


class TestLate:
    def test_who_has_not_offered_by_the_hard_limit_is_late_and_the_others_go_on(self) -> None:
        exchange = opened("a", "b", "c")
        play(exchange, ("offers", "a"), 1.0)
        play(exchange, ("offers", "b"), 1.0)
        assert exchange.progress(99.0).until == 100.0
        stand = exchange.progress(100.0)
        assert (stand.closed, stand.absorbing, stand.until) == (False, True, 200.0)
        play(exchange, ("offers", "c"), 101.0)
        assert "c" not in exchange.offers, "the record is made"
        for event in [("absorbs", "a", "b"), ("absorbs", "b", "a")]:
            play(exchange, event, 102.0)
        assert exchange.progress(102.0).closed
        assert (exchange.late(102.0), exchange.lost()) == (("c",), {})

    def test_who_has_not_absorbed_by_the_hard_limit_is_late(self) -> None:
        exchange = opened("a", "b")
        for event in all_events(("a", "b"))[:3]:
            play(exchange, event, 1.0)
        exchange.progress(1.0)
        assert exchange.progress(101.0).closed
        assert exchange.progress(101.0).quorate
        assert exchange.late(101.0) == ("b",)

    def test_survivors_do_not_wait_longer_than_the_learned_deadline_once_there_is_a_quorum(self) -> None:
        exchange = opened("a", "b", "c", policy=HASTY)
        play(exchange, ("offers", "a"), 1.0)
        assert not exchange.progress(6.0).absorbing
        play(exchange, ("offers", "b"), 7.0)
        assert exchange.progress(7.0).absorbing
        play(exchange, ("absorbs", "a", "b"), 8.0)
        play(exchange, ("absorbs", "b", "a"), 8.0)
        assert exchange.progress(8.0).closed
        assert exchange.late(8.0) == ("c",)

    def test_time_in_which_this_node_stood_still_does_not_count(self) -> None:
        exchange = opened("a", "b")
        play(exchange, ("offers", "a"), 1.0)
        exchange.discount_pause(50.0)
        assert not exchange.progress(140.0).absorbing
        assert exchange.progress(150.0).absorbing
        exchange.discount_pause(50.0)
        assert exchange.progress(250.0 + 1).until == 300.0


class TestComingBack:
    def test_who_is_back_in_time_is_waited_for_like_everybody_else(self) -> None:
        exchange = opened("a", "b")
        play(exchange, ("dies", "b"), 1.0)
        play(exchange, ("offers", "b"), 2.0)
        play(exchange, ("offers", "a"), 3.0)
        play(exchange, ("absorbs", "b", "a"), 3.0)
        assert not exchange.progress(3.0).closed
        play(exchange, ("absorbs", "a", "b"), 4.0)
        assert exchange.progress(4.0).closed
        assert (sorted(exchange.offers), exchange.lost()) == (["a", "b"], {})

    def test_who_is_back_and_dies_again_is_lost(self) -> None:
        exchange = opened("a", "b")
        play(exchange, ("dies", "b"), 1.0)
        play(exchange, ("offers", "b"), 2.0)
        play(exchange, ("offers", "a"), 3.0)
        assert not exchange.progress(3.0).closed
        play(exchange, ("dies", "b"), 4.0)
        assert exchange.progress(4.0).closed
        assert (sorted(exchange.offers), exchange.lost()) == (["a", "b"], {"b": "lost: silent"})

    def test_who_is_back_too_late_but_done_before_the_end_is_not_lost(self) -> None:
        exchange = opened("a", "b", "c")
        for event in all_events(("a", "b", "c"))[:3]:
            play(exchange, event, 1.0)
        assert exchange.progress(1.0).absorbing
        play(exchange, ("dies", "b"), 2.0)
        play(exchange, ("offers", "b"), 3.0)
        for origin in "ac":
            play(exchange, ("absorbs", "b", origin), 4.0)
        for pair in (("a", "c"), ("c", "a")):
            assert not exchange.progress(5.0).closed
            play(exchange, ("absorbs", *pair), 5.0)
        assert exchange.progress(5.0).closed, "nobody waits for anybody to absorb what b has offered"
        assert (exchange.verdicts["a"], exchange.lost()) == ({"c": {}}, {})

    def test_a_newcomer_that_nobody_waited_for_counts_if_it_is_in_time(self) -> None:
        exchange = opened("a")
        play(exchange, ("offers", "new"), 1.0)
        assert not exchange.progress(1.0).closed
        play(exchange, ("offers", "a"), 2.0)
        assert not exchange.progress(2.0).closed, "what it offers is absorbed by a, and the other way round"
        play(exchange, ("absorbs", "a", "new"), 3.0)
        play(exchange, ("absorbs", "new", "a"), 3.0)
        assert exchange.progress(3.0).closed
        assert sorted(exchange.offers) == ["a", "new"]


def test_the_estimators_learn_how_long_each_phase_takes() -> None:
    paces = DeadlineEstimator(HASTY, warm=2), DeadlineEstimator(HASTY, warm=2)
    exchange = ExchangeTracker.open(("a", "b"), 0.0, HASTY, paces)
    for event in all_events(("a", "b"))[:2]:
        play(exchange, event, 30.0)
    exchange.progress(30.0)
    for event in all_events(("a", "b"))[2:]:
        play(exchange, event, 32.0)
    assert exchange.progress(32.0).closed
    exchange.record_durations()
    assert [pace.deadline() for pace in paces] == [30.0, 2.0]


def test_its_progress() -> None:
    exchange = opened("a", "b", "c")
    play(exchange, ("dies", "c"), 0.0)
    play(exchange, ("offers", "a"), 0.0)
    stand = exchange.progress(0.0)
    assert (stand.absorbing, stand.done, stand.expected) == (False, 2, 3)
    play(exchange, ("offers", "b"), 0.0)
    stand = exchange.progress(0.0)
    assert (stand.absorbing, stand.done, stand.expected) == (True, 0, 2)
    assert stand.until < inf
