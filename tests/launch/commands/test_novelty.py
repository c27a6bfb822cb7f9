"""The commands for a novelty cluster: how labels are given, and how what came back is printed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fednet.api import RoundRecord
from fednet.methods.novelty.services import SiteReports
from launch.commands import novelty
from launch.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "nodes", "found"),
    [
        (["0-2"], (), (0, 1, 2)),
        (["0-2"], ("a1", "a3"), {"a1": (0, 1, 2), "a3": (0, 1, 2)}),
        (["a1=0-1", "a2=4"], (), {"a1": (0, 1), "a2": (4,)}),
    ],
)
def test_one_list_for_all_or_one_for_each(given, nodes, found):
    assert novelty.label_lists(given, nodes) == found


@pytest.mark.parametrize(
    ("given", "nodes"), [(["0", "1"], ()), (["a1=0", "1"], ()), (["a1=0"], ("a1",)), (["a1=x"], ()), (["a1="], ())]
)
def test_lists_that_contradict_each_other_are_refused(given, nodes):
    with pytest.raises(ConfigError, match="--labels"):
        novelty.label_lists(given, nodes)


def test_rounds_are_shown_with_who_contributed_who_did_not_and_what_was_left():
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
        lead="a1",
    )
    console = Console(file=io.StringIO(), width=120)
    novelty._show_rounds([record], console)
    said = console.file.getvalue()
    for wanted in (
        "a1:30 a2:10",
        "abababababababab",
        "round 3: a3: late",
        "a4: declined: it has no pictures",
        "a5: NaN",
    ):
        assert wanted in said
    (row,) = [line for line in said.splitlines() if "a1:30" in line]
    assert row.split()[-3:-1] == ["2", "1.5"]


def test_what_sites_told_is_a_row_each():
    console = Console(file=io.StringIO(), width=120)
    novelty._print_site_reports(
        SiteReports({"a1": {"loss": 0.25}, "a2": {"digest": "ab" * 32}}, {"a3": "late"}), "t", console
    )
    said = console.file.getvalue()
    assert ["a1", "0.25", "–"] in [line.split() for line in said.splitlines()]
    assert "a3: late" in said
