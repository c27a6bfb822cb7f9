"""What the board looks like."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from rich.console import Console

from launch.report import screen
from launch.report.status import NodeStatus, StatusBoard
from launch.run.events import LauncherEvent


@pytest.fixture
def board() -> StatusBoard:
    rows = [NodeStatus(f"a{number}", "client", "cpu") for number in range(1, 4)] + [
        NodeStatus("driver", "guest", "cpu")
    ]
    made = StatusBoard("digits", rows, 0.0)
    said = {"phase": "training", "done": 30, "total": 60, "values": {"loss": 0.25}, "note": ""}
    made.record(LauncherEvent(1.0, "a1", "progress", said))
    made.record(LauncherEvent(1.0, "a2", "progress", said | {"done": 15, "values": {"loss": 0.75}}))
    made.record(LauncherEvent(1.0, "a3", "ready", {}))
    made.record(LauncherEvent(1.0, "driver", "joined", {}))
    return made


def drawn(board: StatusBoard, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(screen.status_table(board, 65.0))
    return out.getvalue()


def test_the_table_has_a_line_for_each_node(board: StatusBoard) -> None:
    lines = drawn(board).splitlines()
    assert "digits" in lines[0]
    assert "1:05" in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["a1", "a2", "a3", "driver"]
    assert "30/60" in lines[2]
    assert "loss 0.25" in lines[2]
    assert "waits for a1 a2" in lines[5]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(board: StatusBoard, width: Any) -> None:
    board.rows["driver"].note = "x" * 300
    lines = drawn(board, width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == 6


def test_notes_are_text_and_no_markup(board: StatusBoard) -> None:
    board.rows["driver"].note, board.rows["driver"].state = "[bold]a1[/]", "working"
    assert "[bold]a1[/]" in drawn(board)


def test_a_phase_is_text_and_ends_no_launch(board: StatusBoard) -> None:
    """`[/x]` closes nothing that was opened, which rich refuses; it ended a launch."""
    said = {"phase": "[/x]", "done": 1, "total": 60, "values": {"[/y]": 1.0}, "note": "[/z]"}
    board.record(LauncherEvent(1.0, "a1", "progress", said))
    board.rows["a1"].device = "[/w]"
    shown = drawn(board)
    assert all(mark in shown for mark in ("[/x]", "[/y]", "[/z]", "[/w]"))


def test_devices_are_shown_where_they_differ(board: StatusBoard) -> None:
    assert "cpu" not in drawn(board)
    board.rows["a1"].device = "cuda:0"
    assert "cuda:0" in drawn(board)


def test_a_summary_puts_together_who_does_the_same(board: StatusBoard) -> None:
    assert screen.status_line(board, 65.0) == (
        "[1:05] a3 ready · a1 a2 training 50% 25% loss 0.5 · driver waits for a1 a2"
    )


def test_who_trains_in_a_round_is_shown_at_it(board: StatusBoard) -> None:
    said = {"phase": "training classifier", "done": 4, "total": 8, "values": {"loss": 0.5}, "note": ""}
    board.record(LauncherEvent(1.0, "a3", "progress", said))
    board.record(
        LauncherEvent(1.0, "driver", "progress", said | {"phase": "classifier rounds", "done": 2, "note": "a1 a3"})
    )
    assert "a3 training classifier 50% loss 0.5" in screen.status_line(board, 65.0)
    assert "driver classifier rounds 2/8 a1 a3" in screen.status_line(board, 65.0)
    (line,) = (line for line in drawn(board).splitlines() if line.startswith("a3"))
    assert "ready" in line
    assert "4/8" in line


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (-1, "0:00"), (61.9, "1:01"), (3723, "1:02:03")])
def test_elapsed(seconds: Any, text: Any) -> None:
    assert screen.format_elapsed(seconds) == text


async def test_without_a_terminal_news_come_at_once_and_summaries_now_and_then(
    board: StatusBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.time", lambda: now)
    out = io.StringIO()
    lines = screen._LineDisplay(board, Console(file=out, width=80))
    for tick in range(100):
        now = tick * 0.1
        if tick == 50:
            board.notices.append("a2 is lost: silent")
        lines.tick()
    said = out.getvalue().splitlines()
    assert said.index("! a2 is lost: silent") == 2
    assert [line[:6] for line in said if line.startswith("[")] == ["[0:00]", "[0:03]", "[0:06]", "[0:09]"]


@pytest.mark.parametrize("terminal", [True, False])
async def test_the_last_state_stays_even_after_an_error(board: StatusBoard, terminal: Any) -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=terminal)

    async def fails() -> None:
        async with screen.live_display(board, console):
            await asyncio.sleep(0)
            board.notices.append("the last news")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert "the last news" in out.getvalue()
    assert len(asyncio.all_tasks()) == 1
