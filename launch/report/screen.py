"""Shows the status of a run: a live table on a terminal, plain lines elsewhere.

On a terminal the table is redrawn several times a second. Elsewhere (a log of CI) notices are printed at once and a
status line every few seconds. Knows rich and the clock; decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from launch.report.status import NodeStatus, StatusBoard

REDRAW_SECONDS = 0.2
SUMMARY_SECONDS = 3.0
"""Seconds between two status lines where there is no terminal."""

STOP_HINT = "Ctrl-C stops all nodes"
_MAX_NOTICES = 6
_STYLES = {
    "waiting": "dim",
    "starting": "yellow",
    "joined": "cyan",
    "working": "blue",
    "ready": "green",
    "ended": "green",
    "stopped": "dim",
    "left": "dim",
    "lost": "bold red",
    "died": "bold red",
}
_TICKS = {"ready": "●", "ended": "✓", "died": "✗", "lost": "✗", "stopped": "·", "left": "·", "waiting": "·"}


@asynccontextmanager
async def live_display(board: StatusBoard, console: Console, hint: str = STOP_HINT) -> AsyncIterator[None]:
    """Shows the status while the body runs; the last state stays on the screen. `hint` says what Ctrl-C does."""
    with _drawing(board, console, hint) as draw:
        ticking = asyncio.create_task(_ticking(draw), name="screen")
        try:
            yield
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])
            draw.last()


async def _ticking(draw: _LiveDisplay | _LineDisplay) -> None:
    while True:
        draw.tick()
        await asyncio.sleep(REDRAW_SECONDS)


@contextmanager
def _drawing(board: StatusBoard, console: Console, hint: str) -> Iterator[_LiveDisplay | _LineDisplay]:
    if not console.is_terminal:
        yield _LineDisplay(board, console)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield _LiveDisplay(board, live, hint)


class _LiveDisplay:
    """The table on a terminal."""

    def __init__(self, board: StatusBoard, live: Live, hint: str) -> None:
        self._board, self._hint = board, hint
        self._live = live
        self._spinner = Spinner("dots")

    def tick(self) -> None:
        """Draws the current state."""
        self._live.update(status_table(self._board, time.time(), self._spinner, self._hint), refresh=True)

    def last(self) -> None:
        """Draws the final state."""
        self._live.update(status_table(self._board, time.time()), refresh=True)


class _LineDisplay:
    """Lines where there is no terminal."""

    def __init__(self, board: StatusBoard, console: Console) -> None:
        self._board = board
        self._console = console
        self._printed = 0
        self._next = 0.0

    def tick(self) -> None:
        """Prints what is due."""
        now = time.time()
        for notice in self._board.notices[self._printed :]:
            self._print(f"! {notice}")
        self._printed = len(self._board.notices)
        if now >= self._next:
            self._next = now + SUMMARY_SECONDS
            self._print(status_line(self._board, now))

    def last(self) -> None:
        """Prints the final state."""
        self._next = 0.0
        self.tick()

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def status_table(
    board: StatusBoard, now: float, spinner: Spinner | None = None, hint: str = STOP_HINT
) -> RenderableType:
    """The status as a table, with the latest notices below it.

    While it is live its last line is short: a full one would wrap with the echo of Ctrl-C and shift the next redraw.
    """
    head = Table.grid(padding=(0, 1))
    head.add_row(
        spinner or Text("■", style="dim"),
        Text(board.title, style="bold"),
        Text(format_elapsed(board.elapsed(now)), "dim"),
    )
    body = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim", expand=True)
    body.add_column("node", no_wrap=True)
    body.add_column("on" if _differ(board) else "", no_wrap=True, style="dim")
    body.add_column("state", no_wrap=True)
    body.add_column("doing", no_wrap=True, max_width=18)
    body.add_column("", width=14)
    body.add_column("", no_wrap=True, justify="right")
    body.add_column("", no_wrap=True, ratio=1, overflow="ellipsis")
    for row in board.rows.values():
        body.add_row(*_cells(board, row))
    notices = [Text(f"! {line}", style="red", overflow="fold") for line in board.notices[-_MAX_NOTICES:]]
    foot = [Text(hint, style="dim")] if spinner else []
    return Group(head, body, *notices, *foot)


def _cells(board: StatusBoard, row: NodeStatus) -> tuple[RenderableType, ...]:
    style = _STYLES[row.state]
    working = row.busy
    state = Text(f"{_TICKS.get(row.state, '○')} {row.state}", style=style)
    fraction = row.fraction
    bar = ProgressBar(total=1.0, completed=fraction, width=14) if working and fraction is not None else ""
    count = f"{row.done}/{row.total}" if working and row.total else ""
    note = row.note if row.gone else "  ".join(filter(None, (board.note_of(row), format_values(row.values))))
    phase = row.phase if working else ""
    device = row.device if _differ(board) else ""
    return Text(row.name, style="bold"), Text(device), state, Text(phase), bar, Text(count, "dim"), Text(note)


def _differ(board: StatusBoard) -> bool:
    """Whether the clients compute on different devices, which then is a column."""
    return len({row.device for row in board.rows.values() if row.role == "client"}) > 1


def format_values(values: Mapping[str, float]) -> str:
    """Measurements in one line: `loss 0.0412  nfe 68`."""
    return "  ".join(f"{name} {number:.3g}" for name, number in values.items())


def status_line(board: StatusBoard, now: float) -> str:
    """The status in one line: `[0:42] a1 a2 train 45% 40% · a3 ready · driver: waits for a1 a2`."""
    return f"[{format_elapsed(board.elapsed(now))}] {progress_line(board)}"


def progress_line(board: StatusBoard) -> str:
    """What the nodes do, in one line."""
    rows = list(board.rows.values())
    clients = sorted((row for row in rows if row.role == "client"), key=_doing)
    parts = [_together(doing, list(group)) for doing, group in groupby(clients, key=_doing)]
    parts += [_guest(board, row) for row in rows if row.role == "guest"]
    return " · ".join(parts)


def format_elapsed(seconds: float) -> str:
    """Seconds as `m:ss`, or `h:mm:ss`."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _doing(row: NodeStatus) -> str:
    return row.phase if row.busy else row.state


def _together(doing: str, rows: list[NodeStatus]) -> str:
    """Clients in the same phase, in one part of the line."""
    names = " ".join(row.name for row in rows)
    done = " ".join(f"{row.fraction:.0%}" for row in rows if row.busy and row.fraction is not None)
    means = [f"{name} {_mean(rows, name):.3g}" for name in rows[0].values] if rows[0].busy else []
    return " ".join(filter(None, (names, doing, done, *means)))


def _mean(rows: list[NodeStatus], name: str) -> float:
    numbers = [row.values[name] for row in rows if name in row.values]
    return sum(numbers) / len(numbers)


def _guest(board: StatusBoard, row: NodeStatus) -> str:
    if row.state != "working":
        return f"{row.name} {board.note_of(row) or row.state}"
    parts = (f"{row.name} {row.phase} {row.done}/{row.total}", board.note_of(row), format_values(row.values))
    return " ".join(filter(None, parts))
