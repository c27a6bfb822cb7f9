"""What a run shows its reader: sections of tables, pictures and charts, and who contributed, in one file of one shape.

A method says here what there is to see, as often as there is something new; `launch` shows it and knows no method.
The method's own numbers, for whoever computes on with them, go to a metrics.json of any shape beside it. Imports
neither torch nor a network, so that a command that only shows is quick.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fednet.files import write_whole

SUMMARY = "summary.json"

Cell = bool | int | float | str | None


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SummaryTable(_Value):
    """A table: the heads of its columns, and rows as long as they are; None and NaN stand for nothing."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @model_validator(mode="after")
    def _even(self) -> SummaryTable:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row is not as long as its heads, {len(self.columns)} columns")
        return self


class SummaryFigure(_Value):
    """A picture.

    Attributes:
        title: what it shows.
        file: its path below the run's folder; a png, jpg, gif or svg.
        pixels: whether it is made of small images, whose pixels stay sharp when it is enlarged.
    """

    title: str
    file: str
    pixels: bool = False


class SummaryChart(_Value):
    """Lines over a common axis, drawn by whoever shows them.

    Attributes:
        title: what the vertical axis shows.
        across: what the horizontal axis shows, for example "round".
        lines: points (x, y) by the line's name, in order of x.
    """

    title: str
    across: str
    lines: dict[str, tuple[tuple[float, float], ...]]


class SummarySection(_Value):
    """A part of the results: a heading, and below it whatever there is of a table, notes, pictures and charts."""

    title: str
    table: SummaryTable | None = None
    notes: tuple[str, ...] = ()
    figures: tuple[SummaryFigure, ...] = ()
    charts: tuple[SummaryChart, ...] = ()


@dataclass
class Participation:
    """What one node did over the steps of an account; steps are counted from 1, 0 means none."""

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
    """Who contributed to something that went on in steps.

    Attributes:
        unit: what a step is, in one word: "query", "round".
        steps: how many there were.
        nodes: what each node did.
        lost: who was lost, and when first.
    """

    unit: str
    steps: int = 0
    nodes: dict[str, Participation] = field(default_factory=dict)
    lost: dict[str, LostNode] = field(default_factory=dict)

    @classmethod
    def of(cls, unit: str, names: Iterable[str]) -> ParticipationAccount:
        """An account without a step, of these nodes."""
        return cls(unit, nodes={name: Participation() for name in names})

    def enter(self, contributed: Collection[str], late: Collection[str], lost: Mapping[str, str]) -> None:
        """Books one step; who is in none of the three was not asked to contribute to it."""
        self.steps += 1
        for name in sorted({*contributed, *late, *lost}):
            tally = self.nodes.setdefault(name, Participation())
            if name in contributed:
                tally.contributed += 1
                tally.first = tally.first or self.steps
                tally.last = self.steps
            elif name in late:
                tally.late += 1
            else:
                self.lost.setdefault(name, LostNode(self.steps, lost[name]))


class Summary(_Value):
    """Everything a reader is shown.

    Attributes:
        title: the results in a line.
        sections: in the order in which they are read.
        accounts: who contributed, by the name of what they contributed to.
    """

    title: str = ""
    sections: tuple[SummarySection, ...] = ()
    accounts: dict[str, ParticipationAccount] = Field(default_factory=dict)


def write_summary(folder: Path, summary: Summary) -> None:
    """Writes `folder / summary.json`, whole or not at all; a later one replaces it."""
    write_whole(folder / SUMMARY, (summary.model_dump_json(indent=2) + "\n").encode())


def read_summary(folder: Path) -> Summary:
    """The summary of a run's folder; an empty one where none was left."""
    try:
        return Summary.model_validate_json((folder / SUMMARY).read_bytes())
    except FileNotFoundError:
        return Summary()
