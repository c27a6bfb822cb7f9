"""What the method's commands print."""

from __future__ import annotations

import pytest
from rich.console import Console

from fednet.api import RoundRecord
from fednet.methods.novelty import command_output
from fednet.methods.novelty.services import SiteReports
from fednet.methods.novelty.validation import ClassifierValidation


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=120)


def test_rounds_name_contributors_and_who_is_missing(console: Console) -> None:
    record = RoundRecord(
        number=3,
        model="classifier",
        weights={"a1": 30.0, "a2": 10.0},
        values={"a1": {"loss": 1.0}, "a2": {"loss": 5.0}},
        late=("a3",),
        lost={"a4": "declined: it has no pictures"},
        refused={"a5": "NaN"},
        digest="ab" * 32,
        seconds=1.5,
        leader="a1",
    )
    command_output.print_rounds([record], console)
    text = console.export_text()
    for expected in ("a1:30 a2:10", "ab" * 8, "round 3: a3: late", "a4: declined: it has no pictures", "a5: NaN"):
        assert expected in text
    (row,) = [line for line in text.splitlines() if "a1:30" in line]
    assert row.split()[-3:-1] == ["2", "1.5"], "the mean by weight, and the seconds"


def test_every_site_that_reported_is_a_row(console: Console) -> None:
    reports = SiteReports({"a1": {"loss": 0.25}, "a2": {"digest": "ab" * 32}}, {"a3": "late"})
    command_output.print_site_reports(reports, "t", console)
    text = console.export_text()
    assert ["a1", "0.25", "–"] in [line.split() for line in text.splitlines()]
    assert "a3: late" in text


def test_accuracies_by_label_are_columns(console: Console) -> None:
    validations = {
        "a1": ClassifierValidation(0.5, {0: 2, 1: 2}, {0: 1.0, 1: 0.0}, "ab" * 32),
        "a2": ClassifierValidation(0.75, {1: 4}, {1: 0.75}, "cd" * 32),
    }
    command_output.print_validations(validations, console)
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["site", "accuracy", "pictures", "0", "1", "model"] in lines
    assert ["a2", "0.75", "4", "–", "0.75", "cd" * 8] in lines
