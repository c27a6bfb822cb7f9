"""Shows a run from its folder, as its launch does, for as long as it goes on; ends nothing.

Everything comes from the events that the launch writes, so that any number of terminals can look, and none is heard.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from rich.console import Console

from launch.report.screen import REDRAW_SECONDS, live_display
from launch.report.status import StatusBoard
from launch.run.events import EventTail
from launch.run.folder import EVENTS
from launch.run.lock import lock_holder
from launch.run.runs import read_run
from nodes.signals import told

HINT: Final = "Ctrl-C detaches, the run goes on"


def attach_to(folder: Path, console: Console) -> bool:
    """Shows the run of a folder; returns True once it is over, and False as soon as a signal detaches."""
    return asyncio.run(_attach(folder, console))


async def _attach(folder: Path, console: Console) -> bool:
    board, tail = StatusBoard(read_run(folder).name, (), time.time()), EventTail(folder / EVENTS)
    detached = asyncio.Event()

    def record() -> None:
        for event in tail.read():
            board.record(event)

    record()
    async with live_display(board, console, HINT):
        with told(lambda _number: detached.set()):
            while lock_holder(folder) is not None and not detached.is_set():
                record()
                await _within(REDRAW_SECONDS, detached)
            record()
    return not detached.is_set()


async def _within(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
