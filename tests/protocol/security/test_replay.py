"""The window against replays: against a plain set of what was heard, in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.security.replay import WIDTH, ReplayWindow, SenderReplayState


@given(st.lists(st.integers(1, WIDTH), max_size=60))
def test_within_its_width_it_is_a_set(serials: list[int]) -> None:
    window, heard = ReplayWindow(), set()
    for serial in serials:
        assert window.is_new(serial) == (serial not in heard)
        if serial not in heard:
            window.add(serial)
        heard.add(serial)


@given(st.lists(st.integers(1, 10 * WIDTH), max_size=60))
def test_nothing_is_ever_new_twice(serials: list[int]) -> None:
    life = SenderReplayState(1, 1)
    taken = [serial for serial in serials + serials if life.accept("messages", serial)]
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


def test_nothing_is_taken_from_before_a_life_was_proven() -> None:
    life = SenderReplayState(7, since=10)
    assert [life.accept("messages", serial) for serial in (9, 10, 11)] == [False, True, True]
    life.prove_current(8)
    life.prove_current(12)
    assert [life.accept("messages", serial) for serial in (7, 8, 9)] == [False, True, True]


def test_lanes_do_not_disturb_each_other() -> None:
    life = SenderReplayState(1, 1)
    assert life.accept("pulse", 3 * WIDTH)
    assert life.accept("messages", 1)
    assert life.accept("pulse", 3 * WIDTH - 1)
    assert not life.accept("messages", 1)
