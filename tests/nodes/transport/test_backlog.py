"""Large frames count for as long as somebody holds them, small ones never, and what is stranded no more."""

from __future__ import annotations

import pytest
import zmq

from nodes.transport.backlog import Backlog

LARGE = zmq.COPY_THRESHOLD


@pytest.fixture
def backlog() -> Backlog:
    return Backlog()


def test_it_counts_what_is_held_and_no_more(backlog: Backlog) -> None:
    first = backlog.hold([b"news/", bytes(LARGE), bytes(LARGE + 1)])
    second = backlog.hold([b"news/", bytes(LARGE)])
    assert [bytes(view) for view in first] == [b"news/", bytes(LARGE), bytes(LARGE + 1)]
    assert backlog.bytes() == 3 * LARGE + 1
    del first
    assert backlog.bytes() == LARGE
    del second
    assert backlog.bytes() == 0


def test_small_frames_do_not_count(backlog: Backlog) -> None:
    views = backlog.hold([bytes(LARGE - 1)] * 10)
    assert (len(views), backlog.bytes()) == (10, 0)


def test_what_is_stranded_counts_no_more(backlog: Backlog) -> None:
    lost = backlog.hold([bytes(LARGE)])
    backlog.strand()
    assert backlog.bytes() == 0
    kept = backlog.hold([bytes(LARGE)])
    assert (backlog.bytes(), len(lost), len(kept)) == (LARGE, 1, 1)
