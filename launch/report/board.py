"""What is known of a running cluster, as a table of rows: fed by events, read by whoever shows it. Pure.

Knows no terminal (`launch.report.screen` draws the board) and no clock: times come with the events and the questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from launch.run.events import RUN_NODE, Event
from launch.run.plan import LaunchPlan

FINAL_STATES = frozenset({"died", "ended", "stopped"})
"""States of a node whose process is gone; nothing that is heard later changes them."""


@dataclass
class NodeStatus:
    """What is known of one node.

    Attributes:
        name: the node.
        role: its role.
        device: where it computes.
        state: `waiting`, `starting`, `joined`, `working`, `ready`, `lost`, `left` or one of `FINAL`.
        phase: what it works on.
        done: how many units of the phase are through.
        total: how many there are; 0 where nobody knows.
        values: numbers that it told with its progress.
        note: a remark that it told with its progress, or why it is gone.
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
        """How much of the phase is through, from 0 to 1; None where nobody knows."""
        return min(1.0, self.done / self.total) if self.total > 0 else None

    @property
    def busy(self) -> bool:
        """Whether it is in the middle of something: it gets ready, or is ready and has a part in a round."""
        return self.state == "working" or (self.state == "ready" and self.done < self.total)

    @property
    def gone(self) -> bool:
        """Whether the node takes no more part."""
        return self.state in FINAL_STATES or self.state in {"lost", "left"}


def planned_nodes(plan: LaunchPlan) -> list[NodeStatus]:
    """A row for each process of a plan."""
    return [NodeStatus(spec.name, spec.role, spec.device) for spec in plan.nodes]


class StatusBoard:
    """The rows of a run and the news that a reader must not miss.

    Attributes:
        title: the run's name.
        began: when, in seconds since the epoch.
        rows: by node name.
        news: what happened that cannot be seen from the rows alone, in order.
    """

    def __init__(self, title: str, rows: Iterable[NodeStatus], now: float, *, open_to_all: bool = False) -> None:
        self.title = title
        self.began = now
        self.rows = {row.name: row for row in rows}
        self.news: list[str] = []
        self._open = open_to_all

    def hear(self, happening: Event) -> None:
        """Takes in one event; of nodes without a row only that they come and go, unless the board is open to all."""
        row = self.rows.get(happening.node)
        if happening.kind == "deaf":
            self.news.append(f"progress cannot be shown, the run goes on: {happening.data.get('reason', '')}")
        elif row is None:
            self._hear_of_stranger(happening)
        elif row.state not in FINAL_STATES:
            _LISTENERS[happening.kind](row, happening)
            self._announce(row, happening)

    def awaited(self) -> tuple[str, ...]:
        """The clients that are neither ready nor gone, for which the guest waits."""
        clients = (row for row in self.rows.values() if row.role == "client")
        return tuple(row.name for row in clients if row.state != "ready" and not row.gone)

    def remark(self, row: NodeStatus) -> str:
        """A row's note; that of a guest without work names whom it waits for."""
        if row.role == "guest" and row.state == "joined" and (awaited := self.awaited()):
            return f"waits for {' '.join(awaited)}"
        return row.note

    def _announce(self, row: NodeStatus, happening: Event) -> None:
        said = happening.data
        match happening.kind:
            case "died":
                words = str(said.get("words", "")).splitlines()[-1:]
                self.news.append(": ".join((f"{row.name} {said.get('cause', 'died')}", *words)))
            case "lost":
                self.news.append(f"{row.name} is lost: {said.get('reason', 'silent')}")

    def _hear_of_stranger(self, happening: Event) -> None:
        if happening.node == RUN_NODE:
            return
        if self._open:
            self.rows[happening.node] = NodeStatus(happening.node, str(happening.data.get("role", "")), "", "joined")
            self.hear(happening)
        elif happening.kind in _MEMBERSHIP_TEXT:
            self.news.append(f"{happening.node}, which is not of this launch, {_MEMBERSHIP_TEXT[happening.kind]}")


_MEMBERSHIP_TEXT = {"joined": "has joined", "left": "has left", "lost": "is lost"}


def _started(row: NodeStatus, _: Event) -> None:
    row.state = "starting"


def _joined(row: NodeStatus, _: Event) -> None:
    row.state, row.note = "joined", ""


def _ready(row: NodeStatus, _: Event) -> None:
    row.state = "ready"
    row.phase, row.done, row.total = "", 0, 0


def _progress(row: NodeStatus, happening: Event) -> None:
    told = happening.data
    if row.state != "ready":
        row.state = "working"
    row.phase, row.done, row.total = str(told["phase"]), int(told["done"]), int(told["total"])
    row.values, row.note = dict(told.get("values", {})), str(told.get("note", ""))


def _gone(row: NodeStatus, happening: Event) -> None:
    row.state = happening.kind
    row.note = str(happening.data.get("cause") or happening.data.get("reason") or "")


_LISTENERS = {
    "started": _started,
    "joined": _joined,
    "ready": _ready,
    "progress": _progress,
    "lost": _gone,
    "left": _gone,
    "died": _gone,
    "ended": _gone,
    "stopped": _gone,
}
