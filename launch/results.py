"""What a run has found out, read from its folder: the table of results and who contributed.

Reads `metrics.json` and `contributions.json` as methods leave them; knows no method, and asks for nothing more than
is there, since a run that was interrupted has results too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from launch.runfolder import CONTRIBUTIONS, METRICS


@dataclass(frozen=True)
class Figure:
    """A picture that belongs to the results; `file` is relative to the run's folder."""

    title: str
    file: str


@dataclass(frozen=True)
class Results:
    """The results of a run.

    Attributes:
        title: what the table is about.
        columns: the heads of its columns.
        rows: its rows, as long as `columns`.
        notes: sentences that belong below it.
        figures: pictures.
        contributions: by arm, who contributed, as `contributions.json` has it.
    """

    title: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    contributions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def numeric(self) -> list[bool]:
        """For each column whether it holds numbers and nothing else."""
        return [all(is_number(row[number]) for row in self.rows) for number in range(len(self.columns))]

    def partial(self) -> tuple[str, ...]:
        """A sentence for each arm to which not everybody contributed at every step."""
        return tuple(
            f"{arm}: {said}" for arm, account in self.contributions.items() if (said := _missing(account)) != ""
        )


def read(folder: Path) -> Results:
    """The results of a run's folder; empty where there are none."""
    metrics = _json(folder / METRICS)
    return Results(
        title=str(metrics.get("title", "")),
        columns=tuple(map(str, metrics.get("columns", ()))),
        rows=tuple(tuple(row) for row in metrics.get("rows", ())),
        notes=tuple(map(str, metrics.get("notes", ()))),
        figures=tuple(Figure(str(figure["title"]), str(figure["file"])) for figure in metrics.get("figures", ())),
        contributions=_json(folder / CONTRIBUTIONS),
    )


def cell(value: object) -> str:
    """A value of the table as text; numbers with four significant digits, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def is_number(value: object) -> bool:
    """Whether a value is aligned as numbers are."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def table(results: Results, width: int) -> Table:
    """The results for a terminal of a width; where a row is too long for it, rows and columns change places."""
    heads: Sequence[str] = results.columns
    right = results.numeric()
    cells = [[cell(value) for value in row] for row in results.rows]
    if cells and _natural_width([heads, *cells]) > width:
        heads, *cells = map(list, zip(heads, *cells, strict=True))
        right = [False, *[True] * len(results.rows)]
    drawn = Table(title=escape(results.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for head, to_the_right in zip(heads, right, strict=True):
        drawn.add_column(escape(head), justify="right" if to_the_right else "left")
    for line in cells:
        drawn.add_row(*map(escape, line))
    return drawn


def _natural_width(lines: Sequence[Sequence[str]]) -> int:
    """The columns of a terminal that a table takes if nothing is cut."""
    return sum(max(map(len, column)) + 3 for column in zip(*lines, strict=True))


def _missing(account: Mapping[str, Any]) -> str:
    """Who was lost, who was late and which labels nobody held; empty if everybody was there all the time."""
    lost = account.get("lost", {})
    parts = [
        f"{name} lost at step {told['step']} of {account['steps']} ({told['reason']})" for name, told in lost.items()
    ]
    late = {name: tally["late"] for name, tally in account.get("nodes", {}).items() if tally.get("late")}
    parts += [f"{name} late at {count} of {account['steps']} steps" for name, count in late.items()]
    if orphaned := account.get("orphaned"):
        parts.append(f"nobody who answered held label {', '.join(map(str, orphaned))}")
    return "; ".join(parts)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}
