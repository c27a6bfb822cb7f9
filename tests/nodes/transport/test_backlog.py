"""Large frames count for as long as somebody holds them, small ones never, and what is stranded no more."""

from __future__ import annotations

import pytest

from nodes.transport.backlog import COPIED_BELOW, Backlog

LARGE = COPIED_BELOW


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


def test_what_waits_on_a_topic_counts_there_also_once_it_is_stranded(backlog: Backlog) -> None:
    held = [backlog.hold([topic, bytes(LARGE)]) for topic in (b"to/a/", b"to/ab/", b"to/a/")]
    assert [backlog.bytes(topic) for topic in ("to/a/", "to/ab/", "to/b/")] == [2 * LARGE, LARGE, 0]
    backlog.strand()
    assert (backlog.bytes("to/a/"), backlog.bytes()) == (2 * LARGE, 0)
    held.pop()
    assert backlog.bytes("to/a/") == LARGE


def test_one_inbox_is_full_and_no_other_nor_what_is_said_to_all(backlog: Backlog) -> None:
    def full(topic: bytes, size: int) -> bool:
        return backlog.is_full([topic, bytes(size)], 2 * LARGE)

    held = [backlog.hold([b"to/a/", bytes(LARGE)])]
    assert not full(b"to/a/", LARGE)
    held.append(backlog.hold([b"to/a/", bytes(LARGE)]))
    held.append(backlog.hold([b"news/", bytes(9 * LARGE)]))
    assert full(b"to/a/", LARGE)
    assert not full(b"to/a/", LARGE - 1), "small frames are copied"
    assert not full(b"to/b/", LARGE)
    assert not full(b"news/", LARGE)
    backlog.strand()
    assert full(b"to/a/", LARGE), "it waits nevertheless"
    held.clear()
    assert not full(b"to/a/", LARGE)
