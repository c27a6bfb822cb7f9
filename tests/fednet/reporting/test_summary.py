"""One shape for what a run shows: written, read again, and booked step by step."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from fednet.reporting.summary import (
    SUMMARY,
    LostNode,
    Participation,
    ParticipationAccount,
    Summary,
    SummaryChart,
    SummaryFigure,
    SummarySection,
    SummaryTable,
    read_summary,
    write_summary,
)
from fednet.reporting.tables import format_cell, numeric_columns


def test_what_is_left_is_read_again(tmp_path: Path) -> None:
    account = ParticipationAccount.of("round", ["a1"])
    account.enter({"a1"}, (), {"a2": "died"})
    section = SummarySection(
        title="t",
        table=SummaryTable(columns=("a", "b", "c"), rows=((1, 0.5, True), ("x", None, False))),
        notes=("n",),
        figures=(SummaryFigure(title="f", file="f.png", pixels=True),),
        charts=(SummaryChart(title="c", across="round", lines={"a1": ((1, 0.5),)}),),
    )
    summary = Summary(title="T", sections=(section,), accounts={"m": account})
    write_summary(tmp_path / "new", summary)
    assert read_summary(tmp_path / "new") == summary
    table = read_summary(tmp_path / "new").sections[0].table
    assert table is not None
    assert [type(value) for value in table.rows[0]] == [int, float, bool]


def test_a_folder_without_one_has_an_empty_one(tmp_path: Path) -> None:
    assert read_summary(tmp_path) == Summary()


def test_what_diverged_is_kept_and_can_be_read_again(tmp_path: Path) -> None:
    """As null, an infinite error was an empty cell, and a chart with one could not be read."""
    table = SummaryTable(columns=("a", "b"), rows=((math.nan, -math.inf),))
    chart = SummaryChart(title="", across="round", lines={"a": ((0.0, 1.0), (1.0, math.inf))})
    write_summary(tmp_path, Summary(sections=(SummarySection(title="", table=table, charts=(chart,)),)))
    written = json.loads((tmp_path / SUMMARY).read_text(), parse_constant=pytest.fail)["sections"][0]
    assert written["table"]["rows"] == [["NaN", "-Infinity"]]
    (section,) = read_summary(tmp_path).sections
    assert section.charts == (chart,)
    assert section.table is not None
    assert numeric_columns(section.table) == [True, True]
    assert [format_cell(cell) for cell in section.table.rows[0]] == [format_cell(cell) for cell in table.rows[0]]


def test_a_row_is_as_long_as_the_heads() -> None:
    with pytest.raises(ValidationError, match="needs 1 cells"):
        SummaryTable(columns=("a",), rows=((1,), (1, 2)))


def test_an_account_knows_who_contributed_when_and_whom_nobody_asked() -> None:
    account = ParticipationAccount.of("round", ["a", "b", "c"])
    account.enter({"a", "b"}, {"c"}, {})
    account.enter({"a"}, (), {"b": "died", "x": "refused"})
    account.enter({"c"}, (), {"b": "still dead"})
    assert account.steps == 3
    assert account.nodes == {
        "a": Participation(2, 1, 2),
        "b": Participation(1, 1, 1),
        "c": Participation(1, 3, 3, 1),
        "x": Participation(),
    }
    assert account.lost == {"b": LostNode(2, "died"), "x": LostNode(2, "refused")}


def test_accounts_of_several_sequences_are_joined_as_if_one_came_after_the_other() -> None:
    whole, parts = ParticipationAccount.of("query", "ab"), [ParticipationAccount.of("query", "ab") for _ in range(3)]
    for part in parts:
        for account in (whole, part):
            account.enter({"a"}, {"b"}, {})
            account.enter({"a", "b"} if part is parts[1] else {"a"}, set(), {} if part is parts[1] else {"b": "died"})
    assert ParticipationAccount.joined(parts) == whole


def test_columns_in_which_nothing_was_measured_are_left_out() -> None:
    table = SummaryTable(columns=("arm", "ratio", "seconds"), rows=(("mean", None, 0), ("mixture", None, None)))
    shown = SummaryTable(columns=("arm", "seconds"), rows=(("mean", 0), ("mixture", None)))
    assert table.without_empty_columns() == shown
    assert shown.without_empty_columns() == shown
