"""The fetch of a blob: which holder is asked for which range, the window, and that every fetch ends."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chunks import CHUNK, MAX_SILENCES, WINDOW, BlobFetch, FetchCompleted, FetchFailed, Outcome, RangeRequest
from protocol.limits import DEFAULT
from protocol.messages.blobs import MAX_CHUNK

SIZES: dict[str, Any] = {"window": 4, "patience": 0.25, "give_up": 30.0}


def chunks(size: int) -> dict[int, int]:
    """Ranges of 10 bytes, the last one shorter."""
    return {offset: min(10, size - offset) for offset in range(0, size, 10)}


def arrive(fetch: BlobFetch, holder: str, offset: int, now: float) -> list[Outcome]:
    """A chunk arrives, and its receiver is done with it at once."""
    return [*fetch.arrive(holder, offset, now), *fetch.release(now)]


def ranges(outcomes: Iterable[Outcome], holder: str = "a") -> list[tuple[int, int]]:
    """The ranges requested from one holder; there are no other outcomes."""
    asked = list(outcomes)
    assert all(isinstance(each, RangeRequest) and each.holder == holder for each in asked), asked
    return [each_range for each in asked if isinstance(each, RangeRequest) for each_range in each.ranges]


def started(size: int, *holders: str, now: float = 0.0) -> tuple[BlobFetch, list[Outcome]]:
    """A fetch whose holders are all available, and its first outcomes."""
    fetch = BlobFetch(chunks(size), holders, now, **SIZES)
    return fetch, [each for name in holders for each in fetch.holder_available(name, now)]


class TestAsking:
    def test_chunks_in_order_up_to_the_window_the_last_one_shorter(self) -> None:
        fetch, first = started(35, "a")
        assert ranges(first) == [(0, 10), (10, 10), (20, 10), (30, 5)]
        assert fetch.in_flight == 35
        _, first = started(1000, "a")
        assert ranges(first) == [(0, 10), (10, 10), (20, 10), (30, 10)]

    def test_room_for_half_the_window_is_requested_at_once(self) -> None:
        fetch, _ = started(75, "a")
        assert not list(arrive(fetch, "a", 20, 0.1))
        assert list(arrive(fetch, "a", 0, 0.1)) == [RangeRequest("a", ((40, 10), (50, 10)))]
        assert not list(arrive(fetch, "a", 10, 0.1))
        assert list(arrive(fetch, "a", 40, 0.1)) == [RangeRequest("a", ((60, 10), (70, 5)))]
        for offset in (30, 50, 60):
            assert not list(arrive(fetch, "a", offset, 0.2))
        assert list(arrive(fetch, "a", 70, 0.2)) == [FetchCompleted()]
        assert fetch.in_flight == 0
        assert not list(fetch.tick(1000.0))

    def test_all_that_is_left_needs_less_room(self) -> None:
        fetch, _ = started(45, "a")
        assert ranges(arrive(fetch, "a", 20, 0.1)) == [(40, 5)]

    def test_a_chunk_takes_up_room_until_it_is_released(self) -> None:
        fetch, _ = started(1000, "a")
        for offset in (10, 0):
            assert not list(fetch.arrive("a", offset, 0.1))
        assert not list(fetch.release(0.2))
        assert ranges(fetch.release(0.2)) == [(40, 10), (50, 10)]

    def test_a_receiver_that_is_behind_blames_nobody(self) -> None:
        fetch, _ = started(1000, "a")
        for offset in (0, 10, 20, 30):
            assert not list(fetch.arrive("a", offset, 0.1))
        assert not [each for now in range(1, 1000) for each in fetch.tick(now / 10)]
        assert not list(fetch.release(100.0))
        assert ranges(fetch.release(100.0)) == [(40, 10), (50, 10)]
        assert not list(fetch.tick(100.1))

    def test_some_ranges_in_their_order(self) -> None:
        fetch = BlobFetch({30: 5, 10: 7}, ["a"], 0.0, **SIZES)
        assert ranges(fetch.holder_available("a", 0.0)) == [(30, 5), (10, 7)]

    def test_only_the_first_that_can_be_asked_is_asked(self) -> None:
        fetch = BlobFetch(chunks(20), ["a", "b"], 0.0, **SIZES)
        assert not list(fetch.start(0.0))
        assert ranges(fetch.holder_available("b", 0.1), "b") == [(0, 10), (10, 10)]
        assert not list(fetch.holder_available("a", 0.1))

    def test_an_empty_blob_needs_no_holder(self) -> None:
        assert list(BlobFetch(chunks(0), [], 0.0).start(0.0)) == [FetchCompleted()]

    def test_a_chunk_fits_a_message_and_the_window_several(self) -> None:
        assert CHUNK <= MAX_CHUNK < DEFAULT.max_frame_bytes
        assert WINDOW // CHUNK >= 4


class TestDropping:
    def test_a_chunk_is_expected_only_if_requested_and_only_once(self) -> None:
        fetch, _ = started(65, "a", "b")
        assert fetch.expects("a", 0, 10)
        for holder, offset, count in [("b", 0, 10), ("x", 0, 10), ("a", 40, 10), ("a", 5, 10), ("a", 0, 9)]:
            assert not fetch.expects(holder, offset, count)
        list(arrive(fetch, "a", 0, 0.1))
        assert not fetch.expects("a", 0, 10)

    def test_a_chunk_of_a_former_holder_still_counts(self) -> None:
        fetch, _ = started(65, "a", "b")
        list(fetch.holder_lost("a", "lost", 0.1))
        assert fetch.expects("a", 0, 10)
        assert fetch.expects("b", 0, 10)

    def test_a_holder_that_was_never_asked_cannot_lack_it(self) -> None:
        fetch, _ = started(65, "a", "b")
        assert not list(fetch.holder_lacks("b", 0.1))
        assert not list(fetch.holder_lacks("x", 0.1))
        assert ranges(fetch.holder_lacks("a", 0.1), "b")


class TestRepeating:
    def test_an_overtaken_chunk_after_the_patience(self) -> None:
        fetch, _ = started(65, "a")
        assert not list(arrive(fetch, "a", 10, 0.1))
        assert not list(fetch.tick(0.2))
        list(arrive(fetch, "a", 20, 0.24))
        assert ranges(fetch.tick(0.26)) == [(0, 10)]  # 30 was not overtaken, 40 and 50 were requested at once
        assert not list(fetch.tick(0.3))

    def test_what_is_requested_again_waits_for_no_more_room(self) -> None:
        fetch, _ = started(1000, "a")
        for offset in (10, 20, 30):
            list(fetch.arrive("a", offset, 0.2))  # none of them is taken: the reader waits for the first
        assert ranges(fetch.tick(0.3)) == [(0, 10)]

    def test_everything_after_a_silence_that_doubles(self) -> None:
        fetch, _ = started(20, "a")
        asked = [now / 100 for now in range(0, 1000, 5) if list(fetch.tick(now / 100))]
        assert asked == pytest.approx([0.25, 0.75, 1.75, 3.75, 5.75, 7.75, 9.75], abs=0.06)

    def test_a_slow_link_is_not_asked_twice(self) -> None:
        fetch, _ = started(1000, "a")
        spurious, now = 0, 0.0
        for arrival in range(100):
            while now < 0.4 * (arrival + 1):
                spurious += len(list(fetch.tick(now)))
                now += 0.1
            list(arrive(fetch, "a", 10 * arrival, now))
        assert spurious <= 4, "only before anything was learned"

    def test_another_holder_after_three_silences(self) -> None:
        fetch, _ = started(20, "a", "b")
        asked: list[str] = []
        for now in range(0, 200, 5):
            asked += [each.holder for each in fetch.tick(now / 100) if isinstance(each, RangeRequest)]
        assert asked == ["a"] * (MAX_SILENCES - 1) + ["b"]
        assert not list(arrive(fetch, "b", 0, 2.0))

    def test_a_silent_holder_is_asked_again(self) -> None:
        fetch, _ = started(20, "a", "b")
        asked: set[str] = set()
        for now in range(0, 400, 5):
            asked |= {each.holder for each in fetch.tick(now / 100) if isinstance(each, RangeRequest) and now > 200}
        assert asked == {"a", "b"}

    def test_time_in_which_this_node_stood_still_is_no_silence(self) -> None:
        fetch, _ = started(20, "a")
        assert not list(fetch.tick(0.1))
        assert not list(fetch.tick(100.0))


class TestLosses:
    def test_the_next_holder_is_asked_for_what_is_in_flight(self) -> None:
        fetch, _ = started(65, "a", "b")
        list(arrive(fetch, "a", 10, 0.1))
        assert ranges(fetch.holder_lost("a", "lost", 0.2), "b") == [(0, 10), (20, 10), (30, 10), (40, 10)]

    def test_the_loss_of_another_holder_changes_nothing(self) -> None:
        fetch, _ = started(65, "a", "b")
        assert not list(fetch.holder_lost("b", "lost", 0.1))
        assert not list(fetch.holder_lost("other", "lost", 0.1))

    def test_a_holder_that_lies_is_never_asked_again(self) -> None:
        fetch, _ = started(20, "a", "b")
        assert ranges(fetch.holder_lies("a", "lied", 0.1), "b") == [(0, 10), (10, 10)]
        assert not list(fetch.holder_available("a", 0.2))
        assert list(fetch.holder_lost("b", "left", 0.3)) == [FetchFailed({"a": "lied", "b": "left"})]

    def test_it_waits_for_a_holder_to_be_linked_and_fails_without_any(self) -> None:
        fetch = BlobFetch(chunks(20), ["a", "b"], 0.0, **SIZES)
        assert not list(fetch.holder_lost("a", "is not there", 0.0))
        assert not list(fetch.tick(20.0))
        assert list(fetch.holder_lost("b", "left", 20.0)) == [FetchFailed({"a": "is not there", "b": "left"})]
        assert list(BlobFetch(chunks(20), [], 0.0).start(0.0)) == [FetchFailed({})]

    def test_a_holder_that_comes_back_is_asked_again(self) -> None:
        fetch, _ = started(20, "a", "b")
        list(fetch.holder_lost("a", "lost", 0.1))
        list(fetch.holder_available("a", 0.2))
        assert ranges(fetch.holder_lacks("b", 0.3)) == [(0, 10), (10, 10)]
        assert list(fetch.holder_lost("a", "lost", 0.4)) == [FetchFailed({"a": "lost", "b": "lacks it"})]

    def test_it_fails_after_thirty_seconds_without_a_chunk(self) -> None:
        fetch, _ = started(20, "a", "b")
        list(arrive(fetch, "a", 0, 5.0))
        last = [now for now in range(50, 400) for each in fetch.tick(now / 10) if isinstance(each, FetchFailed)]
        assert last[0] == 351
        reasons = dict.fromkeys("ab", "gave nothing for 30 s")
        assert list(fetch.tick(40.0)) == [FetchFailed(reasons)]


@dataclass
class Network:
    """A network that loses, repeats and reorders, and holders that die, lack it and come back."""

    fetch: BlobFetch
    chance: random.Random
    drop: float
    dead: set[str] = field(default_factory=set)
    flying: list[tuple[float, str, int, int]] = field(default_factory=list)
    came: list[int] = field(default_factory=list)
    over: Outcome | None = None

    def follow(self, outcomes: Iterable[Outcome], now: float) -> None:
        for outcome in outcomes:
            if isinstance(outcome, RangeRequest):
                for offset, count in outcome.ranges:
                    copies = 0 if self.chance.random() < self.drop else self.chance.choice((1, 1, 2))
                    for _ in range(0 if outcome.holder in self.dead else copies):
                        at = now + self.chance.uniform(0, 0.6)
                        self.flying.append((at, outcome.holder, offset, count))
            else:
                assert self.over is None
                self.over = outcome
        assert self.fetch.in_flight <= 40

    def land(self, now: float) -> None:
        ripe = sorted(each for each in self.flying if each[0] <= now)
        self.flying = [each for each in self.flying if each[0] > now]
        for _, holder, offset, count in ripe:
            if self.over is None and self.fetch.expects(holder, offset, count):
                self.came.append(offset)
                self.follow(arrive(self.fetch, holder, offset, now), now)


@given(seed=st.integers(0, 2**32), size=st.integers(1, 500), drop=st.floats(0, 0.6))
def test_every_chunk_arrives_once_while_one_holder_lives(seed: int, size: int, drop: float) -> None:
    network = Network(BlobFetch(chunks(size), "abc", 0.0, **SIZES), random.Random(seed), drop)  # noqa: S311 - replayable
    for name in "abc":
        network.follow(network.fetch.holder_available(name, 0.0), 0.0)
    events = sorted(network.chance.uniform(0, 5) for _ in range(4))
    for step in range(1, 20_000):
        now = step / 10
        while events and events[0] < now:
            events.pop(0)
            name = network.chance.choice("bc")
            known = network.chance.random() < 0.5
            network.dead ^= {name}
            if known and network.over is None:
                back = name not in network.dead
                network.follow(
                    network.fetch.holder_available(name, now) if back else network.fetch.holder_lost(name, "lost", now),
                    now,
                )
        network.land(now)
        if network.over is None:
            network.follow(network.fetch.tick(now), now)
        if network.over is not None:
            break
    assert network.over == FetchCompleted()
    assert sorted(network.came) == list(range(0, size, 10))
