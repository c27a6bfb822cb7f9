"""Results as they are read and shown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fednet.reporting.summary import (
    LostNode,
    Participation,
    ParticipationAccount,
    Summary,
    SummarySection,
    SummaryTable,
)
from fednet.reporting.tables import (
    format_cell,
    incomplete_participation,
    is_number,
    plural,
    rich_table,
    summary_renderables,
)


def said(table, width):
    written = io.StringIO()
    console = Console(file=written, width=width)
    console.print(rich_table(table, "title", width))
    return written.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (1.04812, "1.048"), (300, "300"), ("[b]", "[b]"), (1234567.0, "1.235e+06")],
)
def test_cells(value, text):
    assert format_cell(value) == text


def test_yes_is_no_number():
    assert not is_number(True)
    assert is_number(None)
    assert is_number(0.5)


def test_the_table_shows_text_as_it_is():
    assert "[red]mean[/]" in said(SummaryTable(columns=("arm", "x"), rows=(("[red]mean[/]", 0.5),)), 80)


@pytest.mark.parametrize("width", [45, 60, 200])
def test_a_table_that_is_too_wide_is_turned_and_nothing_is_cut(width):
    columns = ("arm", "label accuracy", "Frechet distance", "seconds")
    rows = (("real", 0.9972, None, None), ("mixture", 0.5, 1.25, 42.0))
    text = said(SummaryTable(columns=columns, rows=rows), width)
    for wanted in (*columns, "real", "mixture", "0.9972", "1.25"):
        assert wanted in text
    assert ("label accuracy" in text.splitlines()[2]) == (width >= 60)


@pytest.mark.parametrize("width", range(31, 50))
def test_nothing_is_cut_at_any_width(width):
    text = said(SummaryTable(columns=("round", "accuracy", "model"), rows=((1, 0.9459, "33bfa44b86d7a9d1"),)), width)
    assert "…" not in text
    assert "33bfa44b86d7a9d1" in text


def test_a_terminal_shows_tables_and_notes_in_the_order_of_the_sections():
    table = SummaryTable(columns=("a",), rows=((1,),))
    sections = (
        SummarySection(title="one", table=table, notes=("first",)),
        SummarySection(title="two", notes=("second",), table=SummaryTable(columns=("b",), rows=())),
        SummarySection(title="three", table=table),
    )
    lost = ParticipationAccount("round", 3, {"a1": Participation(2, 1, 2)}, {"a1": LostNode(3, "silent")})
    parts = list(summary_renderables(Summary(sections=sections, accounts={"classifier": lost}), 80))
    told = [part if isinstance(part, str) else f"table {part.title}" for part in parts]
    assert told == ["table one", "first", "second", "table three", "classifier: a1 lost at round 3 of 3 (silent)"]


def test_a_partial_contribution_is_said():
    full = ParticipationAccount("query", 9, {"a1": Participation(9, 1, 9, 0)})
    lacking = ParticipationAccount(
        "query", 9, {"a1": Participation(4, 1, 9, 2), "a2": Participation(4, 1, 4, 0)}, {"a2": LostNode(5, "silent")}
    )
    found = Summary(accounts={"mean": full, "mixture": lacking})
    assert incomplete_participation(found) == ("mixture: a2 lost at query 5 of 9 (silent); a1 late at 2 of 9 queries",)


@pytest.mark.parametrize(
    ("unit", "count", "text"),
    [("query", 1, "1 query"), ("query", 2, "2 queries"), ("round", 0, "0 rounds"), ("class", 2, "2 classes")],
)
def test_units_in_number(unit, count, text):
    assert plural(unit, count) == text
