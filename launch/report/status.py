"""The status of a running cluster: a row for each node and notices, computed from events. Pure.

Knows no terminal (`launch.report.screen` shows it) and no clock: times come with the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launch.config.schema import DRIVER
from launch.run.events import RUN_NODE, Event
from protocol.clocks import clock_remark

if TYPE_CHECKING:
    from launch.run.plan import LaunchPlan

MAX_NOTICES = 1000
"""Notices of a run that are shown; peers can cause as many as they like, and all of them are in its events."""

FINAL_STATES = frozenset({"died", "ended", "stopped"})
"""States of a node whose process has ended; later events do not change them."""


@dataclass
class NodeStatus:
    """The status of one node.

    Attributes:
        name: the node.
        role: its role.
        device: where it computes.
        state: `waiting`, `starting`, `joined`, `working`, `ready`, `lost`, `left` or one of `FINAL_STATES`.
        phase: what it works on.
        done: units of the phase that are done.
        total: units of the phase; 0 where unknown.
        values: measurements that it reported with its progress.
        note: a note that it reported with its progress, or why it is gone.
    """

    name: str
    role: str
    device: str
    state: str = "waiting"
    phase: str = ""
    done: int = 0
    total: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def fraction(self) -> float | None:
        """The part of the phase that is done, 0 to 1; None where unknown."""
        return min(1.0, self.done / self.total) if self.total > 0 else None

    @property
    def busy(self) -> bool:
        """Whether it is working: preparing, or ready and in the middle of a phase such as a round."""
        return self.state == "working" or (self.state == "ready" and self.done < self.total)

    @property
    def gone(self) -> bool:
        """Whether the node no longer takes part."""
        return self.state in FINAL_STATES or self.state in {"lost", "left"}


def planned_nodes(plan: LaunchPlan) -> list[NodeStatus]:
    """A row for each process of a plan."""
    return [NodeStatus(spec.name, spec.role, spec.device) for spec in plan.nodes]


def replay(title: str, events: Iterable[Event], now: float) -> StatusBoard:
    """The status that events tell, from that on with which a run began.

    Args:
        title: the run's name.
        events: of its file.
        now: seconds since the epoch, in place of the beginning while there is none.
    """
    board = StatusBoard(title, (), now)
    for event in events:
        board.record(event)
    return board


class StatusBoard:
    """The rows of a run, and notices that a reader must not miss.

    Attributes:
        title: the run's name.
        began: seconds since the epoch.
        ended: the same, of a run that is over.
        rows: by node name.
        notices: what the rows alone do not show, in order.
    """

    def __init__(self, title: str, rows: Iterable[NodeStatus], now: float, *, show_all: bool = False) -> None:
        self.title = title
        self.began = now
        self.ended: float | None = None
        self.rows = {row.name: row for row in rows}
        self.notices: list[str] = []
        self._show_all = show_all

    def record(self, event: Event) -> None:
        """Takes in one event; nodes that are not of the plan get a row with `show_all`, else a notice."""
        row = self.rows.get(event.node)
        if event.kind == "began":
            self._begin(event)
        elif event.kind == "over":
            self.ended = event.time
        elif row is None:
            self._record_unplanned(event)
        elif row.state not in FINAL_STATES:
            _UPDATES[event.kind](row, event)
            self._add_notice(row, event)

    def _begin(self, event: Event) -> None:
        self.began, self.ended = event.time, None
        for name in event.data.get("nodes", ()):
            self.rows.setdefault(name, NodeStatus(name, "guest" if name == DRIVER else "client", ""))

    def elapsed(self, now: float) -> float:
        """For how many seconds the run has gone on, or went on."""
        return (now if self.ended is None else self.ended) - self.began

    def awaited(self) -> tuple[str, ...]:
        """The clients that are neither ready nor gone, for which the driver waits."""
        clients = (row for row in self.rows.values() if row.role == "client")
        return tuple(row.name for row in clients if row.state != "ready" and not row.gone)

    def note_of(self, row: NodeStatus) -> str:
        """A row's note; that of a waiting guest names the clients that it waits for."""
        if row.role == "guest" and row.state == "joined" and (awaited := self.awaited()):
            return f"waits for {' '.join(awaited)}"
        return row.note

    def _notice(self, text: str) -> None:
        if len(self.notices) < MAX_NOTICES:
            self.notices.append(text)
        elif len(self.notices) == MAX_NOTICES:
            self.notices.append("further notices are not shown: see events.jsonl in the run's folder")

    def _add_notice(self, row: NodeStatus, event: Event) -> None:
        data = event.data
        match event.kind:
            case "died":
                last_line = str(data.get("message", "")).splitlines()[-1:]
                self._notice(": ".join((f"{row.name} {data.get('cause', 'died')}", *last_line)))
            case "restarting":
                self._notice(f"{row.name} {data.get('cause', 'died')} and is started again")
            case "lost":
                self._notice(f"{row.name} is lost: {data.get('reason', 'silent')}")
            case "repair":
                share = float(data.get("share", 0.0))
                self._notice(f"{share:.0%} of what {row.name} says is heard by retransmission only")
            case "quarantine":
                self._notice(f"{row.name}: {data.get('note', 'has barred a peer')}")
            case "clock":
                self._notice(f"the clock of {row.name}: {clock_remark(float(data.get('ahead', 0.0)))}")

    def _record_unplanned(self, event: Event) -> None:
        if event.node == RUN_NODE:
            return
        if self._show_all:
            self.rows[event.node] = NodeStatus(event.node, str(event.data.get("role", "")), "", "joined")
            self.record(event)
        elif event.kind in _MEMBERSHIP_TEXT:
            self._notice(f"{event.node}, which is not of this launch, {_MEMBERSHIP_TEXT[event.kind]}")


_MEMBERSHIP_TEXT = {"joined": "has joined", "left": "has left", "lost": "is lost"}


def _started(row: NodeStatus, event: Event) -> None:
    row.state = "starting"
    row.role, row.device = str(event.data.get("role", row.role)), str(event.data.get("device", row.device))


def _joined(row: NodeStatus, _: Event) -> None:
    row.state, row.note = "joined", ""


def _ready(row: NodeStatus, _: Event) -> None:
    row.state = "ready"
    row.phase, row.done, row.total = "", 0, 0


def _progress(row: NodeStatus, event: Event) -> None:
    data = event.data
    if row.state != "ready":
        row.state = "working"
    row.phase, row.done, row.total = str(data["phase"]), int(data["done"]), int(data["total"])
    row.values, row.note = dict(data.get("values", {})), str(data.get("note", ""))


def _unchanged(_row: NodeStatus, _event: Event) -> None:
    """The row stays; a notice says it."""


def _gone(row: NodeStatus, event: Event) -> None:
    row.state = event.kind
    row.note = str(event.data.get("cause") or event.data.get("reason") or "")


_UPDATES = {
    "started": _started,
    "restarting": _started,
    "joined": _joined,
    "ready": _ready,
    "progress": _progress,
    "repair": _unchanged,
    "clock": _unchanged,
    "quarantine": _unchanged,
    "lost": _gone,
    "left": _gone,
    "died": _gone,
    "ended": _gone,
    "stopped": _gone,
}
