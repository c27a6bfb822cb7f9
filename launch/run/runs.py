"""The runs below a folder, and what state each is in: read from its folder alone.

The lock says whether somebody runs it, its events how far it is or how it ended. A run that nobody runs and that has no
end has died. Knows no process beyond the lock's holder, and no engine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from launch.config.document import parse
from launch.config.names import slug
from launch.config.schema import DRIVER
from launch.errors import EXIT_INTERNAL_ERROR, EXIT_OK, ConfigError, ConfigProblem, did_you_mean
from launch.report.screen import progress_line
from launch.report.status import StatusBoard, replay
from launch.run.events import RUN_NODE, LauncherEvent, read_events
from launch.run.folder import CONFIG, EVENTS
from launch.run.lock import LockHolder, lock_holder

RunState = Literal["starting", "running", "serving", "done", "stopped", "failed", "died", "by hand"]
"""`serving`: the job is done and the cluster stays up; `stopped`: by a signal; `by hand`: no launch has been here."""


@dataclass(frozen=True)
class RunOverview:
    """A run.

    Attributes:
        name: as it is written.
        method: of its configuration.
        folder: the run's folder.
        state: what it is in.
        began: seconds since the epoch; None if it has not.
        ended: the same; None while it goes on, and of one that died.
        code: the exit code; None while it goes on.
        reason: why the code is not 0.
        progress: what its nodes do, while it goes on.
        holder: the process that runs it.
    """

    name: str
    method: str
    folder: Path
    state: RunState
    began: float | None = None
    ended: float | None = None
    code: int | None = None
    reason: str = ""
    progress: str = ""
    holder: LockHolder | None = None

    @property
    def goes_on(self) -> bool:
        """Whether somebody runs it."""
        return self.holder is not None


def read_run(folder: Path) -> RunOverview:
    """The run of a folder."""
    holder = lock_holder(folder)  # before the events: an end that comes in between is not missed
    events = list(read_events(folder / EVENTS))
    config = _config(folder)
    board = replay(str(config.get("name", folder.name)), events, time.time())
    over = next((event for event in reversed(events) if (event.node, event.kind) == (RUN_NODE, "over")), None)
    known: dict[str, Any] = {
        "name": board.title,
        "method": str(config.get("method", "")),
        "folder": folder,
        "began": next((event.time for event in events if event.kind == "began"), None),
        "holder": holder,
    }
    if holder is not None:
        state: RunState = _state_of_running(board, events)
        return RunOverview(**known, state=state, progress=progress_line(board))
    return RunOverview(**known, **_end(over, began=bool(events)))


def runs_in(out: Path) -> list[RunOverview]:
    """The runs below a folder, the latest last."""
    folders = [path.parent for path in out.glob(f"*/{CONFIG}")] if out.is_dir() else []
    return sorted(map(read_run, folders), key=lambda run: (run.began or 0.0, run.name))


def find_run(name: str, out: Path) -> Path:
    """The folder of a run, by its name as it is written or in paths.

    Raises:
        ConfigError: there is none; names the closest.
    """
    folder = out / slug(name)
    if (folder / CONFIG).is_file():
        return folder
    known = [path.parent.name for path in sorted(out.glob(f"*/{CONFIG}"))]
    expected = f"a run in {out} ({', '.join(known)})" if known else f"a run, of which there is none in {out}"
    raise ConfigError(ConfigProblem("NAME", expected, repr(name), hint=did_you_mean(name, known)))


def _state_of_running(board: StatusBoard, events: list[LauncherEvent]) -> RunState:
    if not events:
        return "starting"
    driver = board.rows.get(DRIVER)
    return "serving" if driver is not None and driver.state == "ended" else "running"


def _end(over: LauncherEvent | None, *, began: bool) -> Mapping[str, Any]:
    if over is None:
        if not began:
            return {"state": "by hand"}
        reason = "the process that ran it has ended without a word; launch it with --resume to go on"
        return {"state": "died", "code": EXIT_INTERNAL_ERROR, "reason": reason}
    code = int(over.data["code"])
    state = "done" if code == EXIT_OK else "stopped" if code > 128 else "failed"
    return {"state": state, "ended": over.time, "code": code, "reason": str(over.data.get("reason", ""))}


def _config(folder: Path) -> Mapping[str, Any]:
    """The configuration as far as it can be read."""
    try:
        return parse((folder / CONFIG).read_text("utf-8"), CONFIG).values
    except (OSError, ValueError, ConfigError):
        return {}
