"""The board: what is known after which events."""

from __future__ import annotations

from typing import Any

import pytest

from launch.report.status import MAX_NOTICES, NodeStatus, StatusBoard, replay
from launch.run.events import LauncherEvent


@pytest.fixture
def board() -> Any:
    rows = [NodeStatus("a1", "client", "cpu"), NodeStatus("a2", "client", "cpu"), NodeStatus("driver", "guest", "cpu")]
    return StatusBoard("test", rows, 0.0)


def tell(board: StatusBoard, node: Any, *kinds: Any, **data: Any) -> None:
    for kind in kinds:
        board.record(LauncherEvent(1.0, node, kind, data))


def progress(board: StatusBoard, node: Any, done: Any = 3, total: Any = 12, **more: Any) -> None:
    tell(board, node, "progress", phase="training", done=done, total=total, **more)


def test_a_client_from_start_to_end(board: StatusBoard) -> None:
    states = []
    for kind in ("started", "joined", "ready", "ended"):
        tell(board, "a1", kind)
        states.append(board.rows["a1"].state)
    assert states == ["starting", "joined", "ready", "ended"]
    assert board.notices == []


def test_progress_is_kept(board: StatusBoard) -> None:
    progress(board, "a1", values={"loss": 0.5}, note="well")
    row = board.rows["a1"]
    assert (row.state, row.phase, row.fraction, row.values, row.note) == (
        "working",
        "training",
        0.25,
        {"loss": 0.5},
        "well",
    )


@pytest.mark.parametrize(("done", "total", "fraction"), [(0, 0, None), (0, 4, 0.0), (9, 4, 1.0)])
def test_fractions_stay_in_range(board: StatusBoard, done: Any, total: Any, fraction: Any) -> None:
    progress(board, "a1", done, total)
    assert board.rows["a1"].fraction == fraction


def test_who_is_ready_stays_ready_whatever_it_tells(board: StatusBoard) -> None:
    tell(board, "a1", "ready")
    progress(board, "a1")
    assert board.rows["a1"].state == "ready"


def test_who_is_ready_and_has_a_part_in_a_round_is_busy_until_it_is_done(board: StatusBoard) -> None:
    row = board.rows["a1"]
    progress(board, "a1", 5, 12)
    assert row.busy
    tell(board, "a1", "ready")
    assert not row.busy
    progress(board, "a1", 3, 12)
    assert (row.state, row.busy) == ("ready", True)
    progress(board, "a1", 12, 12)
    assert not row.busy
    progress(board, "a1", 3, 12)
    tell(board, "a1", "lost")
    assert not row.busy


def test_the_dead_stay_dead_and_are_news(board: StatusBoard) -> None:
    tell(board, "a1", "died", cause="was killed by SIGKILL", message="one line\nhelp")
    tell(board, "a1", "lost", "joined")
    assert (board.rows["a1"].state, board.rows["a1"].note) == ("died", "was killed by SIGKILL")
    assert board.notices == ["a1 was killed by SIGKILL: help"]


def test_whom_a_site_has_barred_is_news(board: StatusBoard) -> None:
    tell(board, "a1", "quarantine", note="x is quarantined for 10 s: it says too much")
    assert board.notices[-1] == "a1: x is quarantined for 10 s: it says too much"


def test_who_causes_news_again_and_again_is_not_news_for_ever(board: StatusBoard) -> None:
    for number in range(2 * MAX_NOTICES):
        tell(board, "a1", "quarantine", note=f"x is quarantined for {number} s")
    assert len(board.notices) == MAX_NOTICES + 1
    assert "events.jsonl" in board.notices[-1]


def test_a_clock_that_differs_is_news(board: StatusBoard) -> None:
    tell(board, "a1", "joined", role="client", address="ipc://a1")
    tell(board, "a1", "clock", ahead=-600.0)
    assert board.rows["a1"].state == "joined"
    assert board.notices[-1].startswith("the clock of a1: it is 600.0 s behind the clock here")


def test_a_conversation_that_lives_by_repair_is_news(board: StatusBoard) -> None:
    tell(board, "a1", "started", "joined")
    tell(board, "a1", "repair", share=0.25)
    assert board.rows["a1"].state == "joined"
    assert board.notices == ["25% of what a1 says is heard by retransmission only"]


def test_the_lost_may_come_back(board: StatusBoard) -> None:
    tell(board, "a1", "lost", reason="silent for 3 s")
    assert board.notices == ["a1 is lost: silent for 3 s"]
    tell(board, "a1", "joined")
    assert board.rows["a1"].state == "joined"


def test_a_guest_without_work_says_whom_it_waits_for(board: StatusBoard) -> None:
    tell(board, "driver", "joined")
    assert board.note_of(board.rows["driver"]) == "waits for a1 a2"
    tell(board, "a1", "ready")
    tell(board, "a2", "died")
    assert board.note_of(board.rows["driver"]) == ""
    progress(board, "driver", note="a1")
    assert board.note_of(board.rows["driver"]) == "a1"


def test_strangers_are_news_and_get_no_row(board: StatusBoard) -> None:
    tell(board, "visitor", "joined", "progress", "left")
    assert "visitor" not in board.rows
    assert [line.split(", ")[1] for line in board.notices] == ["which is not of this launch"] * 2


def test_an_open_board_takes_everybody_in() -> None:
    board = StatusBoard("test", (), 0.0, show_all=True)
    tell(board, "a1", "joined", role="client")
    progress(board, "a1")
    assert (board.rows["a1"].role, board.rows["a1"].state) == ("client", "working")


def test_a_client_that_is_started_again_is_news_and_has_its_row(board: StatusBoard) -> None:
    tell(board, "a2", "restarting", cause="was killed by SIGKILL", message="", left=1)
    assert board.rows["a2"].state == "starting"
    assert board.notices == ["a2 was killed by SIGKILL and is started again"]
    tell(board, "a2", "started", "joined")
    assert board.rows["a2"].state == "joined"


def test_events_of_the_run_are_no_news(board: StatusBoard) -> None:
    tell(board, "", "began", "over")
    assert board.notices == []


def test_a_board_is_made_from_the_events_alone() -> None:
    events = [
        LauncherEvent(5.0, "", "began", {"nodes": ["a1", "driver"]}),
        LauncherEvent(6.0, "a1", "started", {"role": "client", "device": "cuda:1"}),
    ]
    board = replay("x", events, 9.0)
    assert (board.title, board.began, list(board.rows)) == ("x", 5.0, ["a1", "driver"])
    assert (board.rows["a1"].device, board.rows["a1"].state) == ("cuda:1", "starting")
    assert [row.role for row in board.rows.values()] == ["client", "guest"]
    assert replay("x", [], 9.0).began == 9.0
