"""Parts of summaries: accounts of rounds, grids by round, curves of what contributors measured."""

from __future__ import annotations

from collections.abc import Mapping

from fednet.api import RoundRecord
from fednet.methods.common.report import (
    evenly_chosen,
    grid_figures,
    non_empty,
    round_accounts,
    value_charts,
)
from fednet.reporting.summary import SummarySection, SummaryTable


def record(
    number: int, values: Mapping[str, Mapping[str, float]], refused: Mapping[str, str] | None = None
) -> RoundRecord:
    weights = dict.fromkeys(values, 1.0)
    return RoundRecord(number, "gan", weights, values, ("c",), {}, refused or {}, "", 0.0, "a")


ROUNDS = (record(1, {"a": {"loss": 3.0}, "b": {"loss": 5.0}}), record(2, {"a": {"loss": 2.0}}, {"b": "not finite"}))


def test_an_account_has_a_step_a_round_and_a_model_without_rounds_has_none() -> None:
    accounts = round_accounts({"gan": ROUNDS, "classifier": ()}, ("a", "b", "c"))
    assert list(accounts) == ["gan"]
    account = accounts["gan"]
    assert account.steps == 2
    assert (account.nodes["a"].contributed, account.nodes["b"].contributed, account.nodes["c"].late) == (2, 1, 2)
    assert account.lost["b"].reason == "not finite"


def test_a_chart_has_a_line_a_site_or_one_of_all() -> None:
    (chart,) = value_charts(ROUNDS, {"loss": "loss", "else": "never measured"})
    assert chart.lines == {"a": ((1.0, 3.0), (2.0, 2.0)), "b": ((1.0, 5.0),)}
    (largest,) = value_charts(ROUNDS, {"loss": "loss"}, first=0, combine=max)
    assert largest.lines == {"all sites": ((0.0, 5.0), (1.0, 2.0))}


def test_the_first_and_the_last_are_always_chosen() -> None:
    assert evenly_chosen([1, 2, 3], 6) == [1, 2, 3]
    assert evenly_chosen(range(100), 6) == [0, 20, 40, 59, 79, 99]


def test_grids_end_with_the_animation_where_there_are_several() -> None:
    assert [figure.title for figure in grid_figures([0], "untrained")] == ["untrained"]
    assert [figure.title for figure in grid_figures([0, 2], "untrained")] == [
        "untrained",
        "after round 2",
        "all rounds",
    ]
    assert grid_figures([], "untrained") == ()


def test_sections_with_notes_alone_are_left_out() -> None:
    full = SummarySection(title="a", table=SummaryTable(columns=("x",), rows=((1,),)))
    assert non_empty((SummarySection(title="b", notes=("n",)), full)) == (full,)
