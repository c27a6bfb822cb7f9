"""A run's summary: sections of tables, figures and charts, and participation accounts, in one file format.

A method writes it whenever there are new results; `launch` displays it without knowing the method. All numbers, for
further computation, are in the method's metrics.json beside it. Imports neither torch nor networks, so that commands
that only display it start quickly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fednet.files import write_whole

SUMMARY = "summary.json"

Cell = bool | int | float | str | None


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class SummaryTable(_Value):
    """A table: column headers, and rows of the same length; None is an empty cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @model_validator(mode="after")
    def _rows_have_all_columns(self) -> SummaryTable:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"every row needs {len(self.columns)} cells, one per column")
        return self

    def without_empty_columns(self) -> SummaryTable:
        """The same without columns that are empty in every row, such as measures where nothing is measured."""
        kept = [index for index in range(len(self.columns)) if any(row[index] is not None for row in self.rows)]
        return SummaryTable(
            columns=tuple(self.columns[index] for index in kept),
            rows=tuple(tuple(row[index] for index in kept) for row in self.rows),
        )


class SummaryFigure(_Value):
    """An image file.

    Attributes:
        title: its caption.
        file: its path relative to the run's folder; a png, jpg, gif or svg.
        pixels: whether to enlarge it without smoothing, for grids of small images.
    """

    title: str
    file: str
    pixels: bool = False


class SummaryChart(_Value):
    """Lines over a common axis.

    Attributes:
        title: label of the vertical axis.
        across: label of the horizontal axis, for example "round".
        lines: points (x, y) by the line's name, in order of x.
    """

    title: str
    across: str
    lines: dict[str, tuple[tuple[float, float], ...]]


class SummarySection(_Value):
    """A section: a heading, and optionally a table, notes, figures and charts."""

    title: str
    table: SummaryTable | None = None
    notes: tuple[str, ...] = ()
    figures: tuple[SummaryFigure, ...] = ()
    charts: tuple[SummaryChart, ...] = ()


@dataclass
class Participation:
    """Participation of one node; `first` and `last` are numbers of steps from 1, 0 for none."""

    contributed: int = 0
    first: int = 0
    last: int = 0
    late: int = 0


@dataclass
class LostNode:
    """The first step at which a node was lost, and why."""

    step: int
    reason: str


@dataclass
class ParticipationAccount:
    """Participation of nodes in a sequence of steps.

    Attributes:
        unit: name of a step, "query" or "round".
        steps: number of steps.
        nodes: participation by node.
        lost: by node, when it was lost first.
    """

    unit: str
    steps: int = 0
    nodes: dict[str, Participation] = field(default_factory=dict)
    lost: dict[str, LostNode] = field(default_factory=dict)

    @classmethod
    def of(cls, unit: str, names: Iterable[str]) -> ParticipationAccount:
        """An account of these nodes without a step."""
        return cls(unit, nodes={name: Participation() for name in names})

    @classmethod
    def joined(cls, accounts: Sequence[ParticipationAccount]) -> ParticipationAccount:
        """One account of several sequences of steps, of which there is at least one, one after the other."""
        whole = cls(accounts[0].unit)
        for account in accounts:
            for name, node in account.nodes.items():
                known = whole.nodes.setdefault(name, Participation())
                if node.contributed:
                    known.first = known.first or whole.steps + node.first
                    known.last = whole.steps + node.last
                known.contributed, known.late = known.contributed + node.contributed, known.late + node.late
            for name, lost in account.lost.items():
                whole.lost.setdefault(name, LostNode(whole.steps + lost.step, lost.reason))
            whole.steps += account.steps
        return whole

    def enter(self, contributed: Collection[str], late: Collection[str], lost: Mapping[str, str]) -> None:
        """Adds one step; nodes in none of the three were not asked to contribute."""
        self.steps += 1
        for name in sorted({*contributed, *late, *lost}):
            node = self.nodes.setdefault(name, Participation())
            if name in contributed:
                node.contributed += 1
                node.first = node.first or self.steps
                node.last = self.steps
            elif name in late:
                node.late += 1
            else:
                self.lost.setdefault(name, LostNode(self.steps, lost[name]))


class Summary(_Value):
    """The summary of a run.

    Attributes:
        title: the results in one line.
        sections: in display order.
        accounts: participation accounts by name.
    """

    title: str = ""
    sections: tuple[SummarySection, ...] = ()
    accounts: dict[str, ParticipationAccount] = Field(default_factory=dict)


def write_summary(folder: Path, summary: Summary) -> None:
    """Writes `folder / summary.json` atomically, in place of an earlier one."""
    write_whole(folder / SUMMARY, (summary.model_dump_json(indent=2) + "\n").encode(), shared=True)


def read_summary(folder: Path) -> Summary:
    """The summary in a run's folder; an empty one if there is no file."""
    try:
        return Summary.model_validate_json((folder / SUMMARY).read_bytes())
    except FileNotFoundError:
        return Summary()
