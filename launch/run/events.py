"""Events of a run: the launcher's own beside those of the bus, and the file that records them.

`events.jsonl` has one JSON object a line: time (seconds since the epoch), node, kind, data. The kinds of the bus are
those of `nodes.monitor.RunEvent`; the launcher adds `began` and `over` (of the run, under the node name ""), `started`,
`ended`, `stopped`, `died` and `restarting` (of a process). Knows no display and no process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from fednet.files import LineFile
from fednet.reporting.json_text import finite

RUN_NODE = ""
"""The node name of events that concern the whole run."""


class Event(Protocol):
    """An event: a `LauncherEvent` or a `nodes.monitor.RunEvent`."""

    @property
    def time(self) -> float:
        """Seconds since the epoch."""

    @property
    def node(self) -> str:
        """The node that it concerns."""

    @property
    def kind(self) -> str:
        """The kind of event."""

    @property
    def data(self) -> Mapping[str, Any]:
        """Details, by kind."""


EventListener = Callable[[Event], None]


@dataclass(frozen=True)
class LauncherEvent:
    """An event of the launcher itself."""

    time: float
    node: str
    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


def make_event(node: str, kind: str, **data: Any) -> LauncherEvent:
    """An event of now."""
    return LauncherEvent(time.time(), node, kind, data)


class EventFile:
    """Appends events to a file, flushed line by line so that they can be followed; a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = LineFile(path, shared=True)

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, event: Event) -> None:
        """Appends one event.

        Raises:
            OSError: it cannot be written; the file ends with the event before.
        """
        line = {
            "time": round(event.time, 3),
            "node": event.node,
            "kind": event.kind,
            "data": dict(event.data),
        }
        self._file.append(json.dumps(finite(line), default=str))


class EventTail:
    """Reads a file of events while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[LauncherEvent]:
        """The events that have come since the last time; a last line that is not complete yet comes later."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(filter(None, map(_parse, whole.splitlines())))


def read_events(path: Path) -> Iterator[LauncherEvent]:
    """The events of a file, without a last line that was cut off; nothing where there is no file."""
    yield from EventTail(path).read()


def _parse(line: bytes) -> LauncherEvent | None:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError:
        return None
    return LauncherEvent(fields["time"], fields["node"], fields["kind"], fields["data"])
