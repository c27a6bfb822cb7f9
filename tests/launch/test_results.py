"""Results as they are read and shown."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from launch.results import Figure, Results, cell, is_number, read, table


def test_an_empty_folder_has_empty_results(tmp_path):
    assert read(tmp_path) == Results()


def test_results_are_read(tmp_path):
    metrics = {
        "title": "T",
        "columns": ["arm", "FID"],
        "rows": [["mean", 1.5]],
        "notes": ["n"],
        "figures": [{"title": "f", "file": "figures/f.png"}],
        "whatever": {"else": 1},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "contributions.json").write_text(json.dumps({"mean": {"steps": 3, "nodes": {}}}))
    found = read(tmp_path)
    assert (found.title, found.columns, found.rows, found.notes) == ("T", ("arm", "FID"), (("mean", 1.5),), ("n",))
    assert found.figures == (Figure("f", "figures/f.png"),)
    assert found.contributions["mean"]["steps"] == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (1.04812, "1.048"), (300, "300"), ("[b]", "[b]"), (1234567.0, "1.235e+06")],
)
def test_cells(value, text):
    assert cell(value) == text


def test_yes_is_no_number():
    assert not is_number(True)
    assert is_number(None)
    assert is_number(0.5)


def test_the_table_shows_text_as_it_is():
    console = Console(file=io.StringIO(), width=80)
    console.print(table(Results("title", ("arm", "x"), (("[red]mean[/]", 0.5),)), 80))
    assert "[red]mean[/]" in console.file.getvalue()


@pytest.mark.parametrize("width", [45, 60, 200])
def test_a_table_that_is_too_wide_is_turned_and_nothing_is_cut(width):
    columns = ("arm", "label accuracy", "Frechet distance", "seconds")
    rows = (("real", 0.9972, None, None), ("mixture", 0.5, 1.25, 42.0))
    console = Console(file=io.StringIO(), width=width)
    console.print(table(Results("title", columns, rows), width))
    said = console.file.getvalue()
    for wanted in (*columns, "real", "mixture", "0.9972", "1.25"):
        assert wanted in said
    assert ("label accuracy" in said.splitlines()[2]) == (width >= 60)


def test_a_partial_contribution_is_said():
    full = {"steps": 9, "nodes": {"a1": {"answered": 9, "late": 0}}, "lost": {}, "orphaned": []}
    lacking = {
        "steps": 9,
        "nodes": {"a1": {"answered": 4, "late": 2}},
        "lost": {"a2": {"step": 5, "reason": "silent"}},
        "orphaned": [3, 4],
    }
    found = Results(contributions={"mean": full, "mixture": lacking})
    assert found.partial() == (
        "mixture: a2 lost at step 5 of 9 (silent); a1 late at 2 of 9 steps; nobody who answered held label 3, 4",
    )
