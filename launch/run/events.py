"""What happens in a run, as the launcher tells it: its own events beside those of the bus, and the file of them.

`events.jsonl` has one JSON object a line: time (seconds since the epoch), node, kind, data. The kinds of the bus are
those of `nodes.monitor.Event`; the launcher adds `began` and `over` (of the run, under the node name ""), `started`,
`ended`, `stopped` and `died` (of a process) and `deaf` (the launcher no longer hears the bus). Knows no display and
no process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

RUN_NODE = ""
"""The node name of events that concern the whole run."""


class Event(Protocol):
    """Anything that happened: the launcher's `Event` as well as `nodes.monitor.Event`."""

    @property
    def time(self) -> float:
        """Seconds since the epoch."""

    @property
    def node(self) -> str:
        """Whom it concerns."""

    @property
    def kind(self) -> str:
        """What happened."""

    @property
    def data(self) -> Mapping[str, Any]:
        """More about it."""


EventListener = Callable[[Event], None]


@dataclass(frozen=True)
class LauncherEvent:
    """Something that the launcher itself knows of."""

    time: float
    node: str
    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


def make_event(node: str, kind: str, **data: Any) -> LauncherEvent:
    """An event of now."""
    return LauncherEvent(time.time(), node, kind, data)


class EventFile:
    """Writes events as they happen, each line whole and on disk for whoever reads along; a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, happening: Event) -> None:
        """Appends one event."""
        line = {
            "time": round(happening.time, 3),
            "node": happening.node,
            "kind": happening.kind,
            "data": dict(happening.data),
        }
        self._file.write(json.dumps(line, default=str) + "\n")
        self._file.flush()


def read_events(path: Path) -> Iterator[LauncherEvent]:
    """The events of a file, without a last line that was cut off; nothing where there is no file."""
    if not path.is_file():
        return
    for line in path.read_text("utf-8").splitlines():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield LauncherEvent(found["time"], found["node"], found["kind"], found["data"])
