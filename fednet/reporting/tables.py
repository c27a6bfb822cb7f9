"""Renders a run's summary for a terminal: its tables, its notes, and a sentence for each incomplete participation.

Works on the summary of an interrupted run, too; knows no method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from fednet.reporting import summary
from fednet.reporting.json_text import NON_FINITE, number_text
from fednet.reporting.summary import ParticipationAccount, Summary


def numeric_columns(table: summary.SummaryTable) -> list[bool]:
    """For each column whether it holds numbers and nothing else."""
    return [all(is_number(row[number]) for row in table.rows) for number in range(len(table.columns))]


def format_cell(value: object) -> str:
    """A value of a table as text; numbers with four significant digits, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number_text(value)
    return str(value)


def is_number(value: object) -> bool:
    """Whether a value is aligned as numbers are."""
    return value is None or value in NON_FINITE or (isinstance(value, int | float) and not isinstance(value, bool))


def summary_renderables(summary: Summary, width: int) -> Iterator[Table | str]:
    """What a terminal of a width shows of a summary, in order: tables, and notes as plain lines."""
    for section in summary.sections:
        if section.table is not None and section.table.rows:
            yield rich_table(section.table, section.title, width)
        yield from section.notes
    yield from incomplete_participation(summary)


def rich_table(table: summary.SummaryTable, title: str, width: int) -> Table:
    """A table for a terminal of a width; where a row is too long for it, rows and columns change places."""
    heads: Sequence[str] = table.columns
    right = numeric_columns(table)
    cells = [[format_cell(value) for value in row] for row in table.rows]
    if cells and _natural_width([heads, *cells]) > width:
        heads, *cells = map(list, zip(heads, *cells, strict=True))
        right = [False, *[True] * len(table.rows)]
    made = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    made.min_width = min(width, len(title))  # or the title is broken
    for head, to_the_right in zip(heads, right, strict=True):
        made.add_column(Text(head), justify="right" if to_the_right else "left")
    for line in cells:
        made.add_row(*map(Text, line))
    return made


def incomplete_participation(summary: Summary) -> tuple[str, ...]:
    """A sentence for each account to which not everybody contributed at every step that wanted it."""
    missing = {name: _missing(account) for name, account in summary.accounts.items()}
    return tuple(f"{name}: {sentence}" for name, sentence in missing.items() if sentence)


def plural(unit: str, count: int) -> str:
    """`1 query`, `2 queries`, `2 classes`."""
    several = f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}es" if unit.endswith("s") else f"{unit}s"
    return f"{count} {unit if count == 1 else several}"


def _natural_width(lines: Sequence[Sequence[str]]) -> int:
    """The columns of a terminal that a table takes if nothing is cut."""
    return 1 + sum(max(map(len, column)) + 3 for column in zip(*lines, strict=True))


def _missing(account: ParticipationAccount) -> str:
    """Who was lost and who was late; empty if everybody was there all the time."""
    parts = [
        f"{name} lost at {account.unit} {loss.step} of {account.steps} ({loss.reason})"
        for name, loss in account.lost.items()
    ]
    late = {name: tally.late for name, tally in account.nodes.items() if tally.late}
    parts += [f"{name} late at {count} of {plural(account.unit, account.steps)}" for name, count in late.items()]
    return "; ".join(parts)
