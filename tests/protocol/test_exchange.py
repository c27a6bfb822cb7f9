"""The asker's ledger: any order of events gives the same record, and a death at any point closes it all the same."""

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


def play(held: ExchangeTracker, event: Event, now: float) -> None:
    match event:
        case ("offers", name):
            held.offered(name, offering(name), now)
        case ("absorbs", name, origin):
            held.absorbed(name, origin, {}, now)
        case ("dies", name):
            held.lose(name, "lost: silent", now)
        case ("declines", name):
            held.lose(name, "declined: no", now)


def story(names: tuple[str, ...], declines: frozenset[str] = frozenset()) -> list[Event]:
    """All that happens when nobody dies."""
    trades = [name for name in names if name not in declines]
    said: list[Event] = [("declines" if name in declines else "offers", name) for name in names]
    return said + [("absorbs", *pair) for pair in itertools.permutations(trades, 2)]


def record(held: ExchangeTracker) -> Any:
    taken = {name: sorted(held.verdicts.get(name, {})) for name in held.offers}
    return sorted(held.offers), taken, held.late(99.0), held.lost()


@given(names=st.integers(1, 5), declining=st.integers(0, 4), chance=st.randoms(use_true_random=False))
def test_any_order_of_events_gives_the_same_record_and_closes_with_the_last(
    names: int, declining: int, chance: Random
) -> None:
    peers = tuple(f"p{index}" for index in range(names))
    declines = frozenset(peers[:declining]) if declining < names else frozenset()
    events = story(peers, declines)
    chance.shuffle(events)
    held, straight = opened(*peers), opened(*peers)
    for now, event in enumerate(events):
        assert not held.progress(float(now)).closed, "something is still to come"
        play(held, event, float(now))
    for event in story(peers, declines):
        play(straight, event, 0.0)
    assert held.progress(50.0).closed
    assert held.progress(50.0).quorate
    straight.progress(50.0)
    assert record(held) == record(straight)
    assert record(held)[2:] == ((), dict.fromkeys(sorted(declines), "declined: no"))


@given(dead=st.sampled_from([("p0",), ("p0", "p2")]), chance=st.randoms(use_true_random=False))
def test_a_death_at_any_point_keeps_nobody_waiting(dead: tuple[str, ...], chance: Random) -> None:
    peers = ("p0", "p1", "p2", "p3")
    events = story(peers)
    chance.shuffle(events)
    for when in range(len(events) + 1):
        held = opened(*peers)
        for now, event in enumerate(events[:when]):
            play(held, event, float(now))
            held.progress(float(now))
        for name in dead:
            play(held, ("dies", name), 20.0)
        for event in events[when:]:
            held.progress(30.0)
            if event[1] not in dead and not (event[0] == "absorbs" and event[2] in dead):
                play(held, event, 30.0)
        stand = held.progress(40.0)
        assert (stand.closed, stand.quorate) == (True, True)
        assert held.late(40.0) == ()
        survivors = set(peers) - set(dead)
        assert survivors <= held.offers.keys()
        assert all(survivors - {name} <= held.verdicts[name].keys() for name in survivors)
        assert set(held.lost()) <= set(dead)


def test_when_all_but_one_die_nothing_is_left_to_absorb() -> None:
    held = opened("a", "b", "c")
    for event in story(("a", "b", "c"))[:3]:
        play(held, event, 1.0)
    assert held.progress(1.0).absorbing
    play(held, ("dies", "a"), 3.0)
    assert not held.progress(3.0).closed, "b and c have each other's to absorb"
    play(held, ("dies", "b"), 4.0)
    assert held.progress(4.0).closed
    assert held.progress(4.0).quorate
    assert held.lost() == {"a": "lost: silent", "b": "lost: silent"}


def test_when_nobody_absorbs_it_closes_without_a_quorum() -> None:
    held = opened("a", "b")
    for event in story(("a", "b"))[:2]:
        play(held, event, 1.0)
    assert not held.progress(1.0).closed
    stand = held.progress(101.0)
    assert (stand.closed, stand.quorate, held.late(101.0)) == (True, False, ("a", "b"))


def test_nobody_there_is_no_quorum() -> None:
    stand = opened().progress(0.0)
    assert (stand.closed, stand.quorate) == (True, False)


def test_everybody_declines() -> None:
    held = opened("a", "b")
    play(held, ("declines", "a"), 1.0)
    assert not held.progress(1.0).closed
    play(held, ("declines", "b"), 1.0)
    stand = held.progress(1.0)
    assert (stand.closed, stand.quorate, held.lost()) == (True, False, {"a": "declined: no", "b": "declined: no"})


class TestLate:
    def test_who_has_not_offered_by_the_hard_limit_is_late_and_the_others_go_on(self) -> None:
        held = opened("a", "b", "c")
        play(held, ("offers", "a"), 1.0)
        play(held, ("offers", "b"), 1.0)
        assert held.progress(99.0).until == 100.0
        stand = held.progress(100.0)
        assert (stand.closed, stand.absorbing, stand.until) == (False, True, 200.0)
        play(held, ("offers", "c"), 101.0)
        assert "c" not in held.offers, "the record is made"
        for event in [("absorbs", "a", "b"), ("absorbs", "b", "a")]:
            play(held, event, 102.0)
        assert held.progress(102.0).closed
        assert (held.late(102.0), held.lost()) == (("c",), {})

    def test_who_has_not_absorbed_by_the_hard_limit_is_late(self) -> None:
        held = opened("a", "b")
        for event in story(("a", "b"))[:3]:
            play(held, event, 1.0)
        held.progress(1.0)
        assert held.progress(101.0).closed
        assert held.progress(101.0).quorate
        assert held.late(101.0) == ("b",)

    def test_survivors_do_not_wait_longer_than_the_learned_deadline_once_there_is_a_quorum(self) -> None:
        held = opened("a", "b", "c", policy=HASTY)
        play(held, ("offers", "a"), 1.0)
        assert not held.progress(6.0).absorbing
        play(held, ("offers", "b"), 7.0)
        assert held.progress(7.0).absorbing
        play(held, ("absorbs", "a", "b"), 8.0)
        play(held, ("absorbs", "b", "a"), 8.0)
        assert held.progress(8.0).closed
        assert held.late(8.0) == ("c",)

    def test_time_in_which_the_asker_stood_still_does_not_count(self) -> None:
        held = opened("a", "b")
        play(held, ("offers", "a"), 1.0)
        held.discount_pause(50.0)
        assert not held.progress(140.0).absorbing
        assert held.progress(150.0).absorbing
        held.discount_pause(50.0)
        assert held.progress(250.0 + 1).until == 300.0


class TestComingBack:
    def test_who_is_back_in_time_is_waited_for_like_everybody_else(self) -> None:
        held = opened("a", "b")
        play(held, ("dies", "b"), 1.0)
        play(held, ("offers", "b"), 2.0)
        play(held, ("offers", "a"), 3.0)
        play(held, ("absorbs", "b", "a"), 3.0)
        assert not held.progress(3.0).closed
        play(held, ("absorbs", "a", "b"), 4.0)
        assert held.progress(4.0).closed
        assert (sorted(held.offers), held.lost()) == (["a", "b"], {})

    def test_who_is_back_and_dies_again_is_lost(self) -> None:
        held = opened("a", "b")
        play(held, ("dies", "b"), 1.0)
        play(held, ("offers", "b"), 2.0)
        play(held, ("offers", "a"), 3.0)
        assert not held.progress(3.0).closed
        play(held, ("dies", "b"), 4.0)
        assert held.progress(4.0).closed
        assert (sorted(held.offers), held.lost()) == (["a", "b"], {"b": "lost: silent"})

    def test_who_is_back_too_late_but_done_before_the_end_is_not_lost(self) -> None:
        held = opened("a", "b", "c")
        for event in story(("a", "b", "c"))[:3]:
            play(held, event, 1.0)
        assert held.progress(1.0).absorbing
        play(held, ("dies", "b"), 2.0)
        play(held, ("offers", "b"), 3.0)
        for origin in "ac":
            play(held, ("absorbs", "b", origin), 4.0)
        for pair in (("a", "c"), ("c", "a")):
            assert not held.progress(5.0).closed
            play(held, ("absorbs", *pair), 5.0)
        assert held.progress(5.0).closed, "nobody waits for anybody to absorb what b has offered"
        assert (held.verdicts["a"], held.lost()) == ({"c": {}}, {})

    def test_a_newcomer_that_nobody_waited_for_counts_if_it_is_in_time(self) -> None:
        held = opened("a")
        play(held, ("offers", "new"), 1.0)
        assert not held.progress(1.0).closed
        play(held, ("offers", "a"), 2.0)
        assert not held.progress(2.0).closed, "what it offers is absorbed by a, and the other way round"
        play(held, ("absorbs", "a", "new"), 3.0)
        play(held, ("absorbs", "new", "a"), 3.0)
        assert held.progress(3.0).closed
        assert sorted(held.offers) == ["a", "new"]


def test_the_paces_learn_how_long_each_phase_takes() -> None:
    paces = DeadlineEstimator(HASTY, warm=2), DeadlineEstimator(HASTY, warm=2)
    held = ExchangeTracker.open(("a", "b"), 0.0, HASTY, paces)
    for event in story(("a", "b"))[:2]:
        play(held, event, 30.0)
    held.progress(30.0)
    for event in story(("a", "b"))[2:]:
        play(held, event, 32.0)
    assert held.progress(32.0).closed
    held.record_durations()
    assert [pace.deadline() for pace in paces] == [30.0, 2.0]


def test_how_far_it_is() -> None:
    held = opened("a", "b", "c")
    play(held, ("dies", "c"), 0.0)
    play(held, ("offers", "a"), 0.0)
    stand = held.progress(0.0)
    assert (stand.absorbing, stand.done, stand.expected) == (False, 2, 3)
    play(held, ("offers", "b"), 0.0)
    stand = held.progress(0.0)
    assert (stand.absorbing, stand.done, stand.expected) == (True, 0, 2)
    assert stand.until < inf
