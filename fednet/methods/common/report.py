"""Parts of the methods' summaries: who contributed to rounds, grids of samples by round, curves by site.

Computes nothing that a method measures. Knows no method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from fednet.api import RoundRecord
from fednet.data.classes import listed_classes
from fednet.methods.common.capabilities import ImageCapabilities
from fednet.reporting.animation import ANIMATION, grid_path
from fednet.reporting.summary import (
    ParticipationAccount,
    Summary,
    SummaryChart,
    SummaryFigure,
    SummarySection,
    SummaryTable,
)

T = TypeVar("T")
Points = tuple[tuple[float, float], ...]

NOT_PRIVATE = "NOT PRIVATE"
"""The mark of results that no epsilon covers."""
MAX_SHOWN = 6
"""Grids, and rows of a table of rounds."""


def non_empty(sections: Iterable[SummarySection]) -> tuple[SummarySection, ...]:
    """The sections that have a table, a figure or a chart."""
    return tuple(section for section in sections if section.table or section.figures or section.charts)


def with_data(summary: Summary, capabilities: Mapping[str, ImageCapabilities], note: str = "") -> Summary:
    """A summary with a section that says whose pictures were used for what.

    Args:
        summary: of the run.
        capabilities: of the sites.
        note: why nothing was measured; empty where something was.
    """
    parts = tuple(dict.fromkeys(part for site in capabilities.values() for part in site.parts))
    rows = tuple(
        (name, "its own" if site.own else "a share of the run's", *(site.parts.get(part, 0) for part in parts))
        for name, site in capabilities.items()
    )
    classes = next(iter(capabilities.values())).classes
    table = SummaryTable(columns=("site", "data", *parts), rows=rows)
    notes = (f"Classes: {listed_classes(classes)}.", *_disclosed(capabilities), *((note,) if note else ()))
    section = SummarySection(title="Data", table=table, notes=notes)
    return summary.model_copy(update={"sections": (*summary.sections, section)})


def _disclosed(capabilities: Mapping[str, ImageCapabilities]) -> tuple[str, ...]:
    """A note for every permission under which sites answer from private pictures without noise."""
    permissions = sorted({one for site in capabilities.values() for one in site.unprotected})
    who = {one: [name for name, site in capabilities.items() if one in site.unprotected] for one in permissions}
    told = "answer, or have answered, from private pictures without noise"
    return tuple(f"{NOT_PRIVATE}: {', '.join(names)} {told} ({one})." for one, names in who.items())


def round_accounts(
    rounds: Mapping[str, Sequence[RoundRecord]], sites: Iterable[str]
) -> dict[str, ParticipationAccount]:
    """Who contributed to the rounds of each model that has had one."""
    accounts = {}
    for model, records in rounds.items():
        account = accounts[model] = ParticipationAccount.of("round", sites)
        for record in records:
            account.enter(record.weights, record.late, {**record.lost, **record.refused})
    return {model: account for model, account in accounts.items() if account.steps}


def evenly_chosen(items: Sequence[T], most: int = MAX_SHOWN) -> list[T]:
    """The first, the last, and some between them; all where there are at most `most`."""
    if len(items) <= most:
        return list(items)
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def grid_figures(numbers: Sequence[int], before: str) -> tuple[SummaryFigure, ...]:
    """Grids of samples of some rounds, and the animation of all where there is more than one.

    Args:
        numbers: rounds after which samples were drawn; 0 for those before the first.
        before: the title of those.
    """
    stills = tuple(
        SummaryFigure(title=f"after round {number}" if number else before, file=grid_path(number), pixels=True)
        for number in evenly_chosen(numbers)
    )
    moving = SummaryFigure(title="all rounds", file=ANIMATION, pixels=True)
    return (*stills, moving) if len(numbers) > 1 else stills


def value_charts(
    records: Sequence[RoundRecord],
    titles: Mapping[str, str],
    first: int = 1,
    combine: Callable[[Iterable[float]], float] | None = None,
) -> tuple[SummaryChart, ...]:
    """A chart for every kind of value that contributors measured, by round.

    Args:
        records: of the rounds.
        titles: the charts' titles by the value's name.
        first: the number of the first record's round.
        combine: makes one line of all sites, for example max; None for a line a site.
    """
    charts = []
    for key, title in titles.items():
        lines: dict[str, list[tuple[float, float]]] = {}
        for number, record in enumerate(records, first):
            values = {site: values[key] for site, values in record.values.items() if key in values}
            if combine is not None and values:
                values = {"all sites": combine(values.values())}
            for site, value in values.items():
                lines.setdefault(site, []).append((float(number), float(value)))
        if lines:
            points = {site: tuple(points) for site, points in sorted(lines.items())}
            charts.append(SummaryChart(title=title, across="round", lines=points))
    return tuple(charts)
