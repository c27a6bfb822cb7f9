"""The window against replays: against a plain set of what has arrived, in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.security.replay import WIDTH, ReplayWindow, SenderReplayState


@given(st.lists(st.integers(1, WIDTH), max_size=60))
def test_within_its_width_it_is_a_set(serials: list[int]) -> None:
    window, arrived = ReplayWindow(), set()
    for serial in serials:
        assert window.is_new(serial) == (serial not in arrived)
        if serial not in arrived:
            window.add(serial)
        arrived.add(serial)


@given(st.lists(st.integers(1, 10 * WIDTH), max_size=60))
def test_nothing_is_ever_new_twice(serials: list[int]) -> None:
    state = SenderReplayState(1, 1)
    taken = [serial for serial in serials + serials if state.accept("messages", serial)]
    assert len(taken) == len(set(taken))


def test_what_is_too_far_behind_is_not_new() -> None:
    window = ReplayWindow()
    window.add(2 * WIDTH)
    assert [window.is_new(2 * WIDTH - behind) for behind in (0, 1, WIDTH - 1, WIDTH)] == [False, True, True, False]


def test_a_jump_of_any_size_costs_nothing() -> None:
    window = ReplayWindow()
    for serial in (1, 2**63 - 2, 2**63 - 1):
        assert window.is_new(serial)
        window.add(serial)
    assert not window.is_new(1)


def test_serials_before_the_proven_one_are_replays() -> None:
    state = SenderReplayState(7, since=10)
    assert [state.accept("messages", serial) for serial in (9, 10, 11)] == [False, True, True]
    state.prove_current(8)
    state.prove_current(12)
    assert [state.accept("messages", serial) for serial in (7, 8, 9)] == [False, True, True]


def test_lanes_do_not_disturb_each_other() -> None:
    state = SenderReplayState(1, 1)
    assert state.accept("heartbeats", 3 * WIDTH)
    assert state.accept("messages", 1)
    assert state.accept("heartbeats", 3 * WIDTH - 1)
    assert not state.accept("messages", 1)
