"""The rounds that all sites of the method `external-training` request, and what a run of them leaves in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fednet.api import RoundPlan, RoundRecord
from fednet.methods.external_training.config import ExternalTrainingConfig
from fednet.reporting.record import write_json
from fednet.reporting.summary import (
    Cell,
    ParticipationAccount,
    Summary,
    SummaryChart,
    SummarySection,
    SummaryTable,
    write_summary,
)

MODEL, TRAIN = "model", "train"
"""The one model, and what a round is for."""


def round_plan(config: ExternalTrainingConfig) -> RoundPlan:
    """The rounds of a run, the same whoever requests them."""
    return RoundPlan("external-training", MODEL, TRAIN, config.rounds, config.federation)


def write_results(folder: Path, config: ExternalTrainingConfig, records: Sequence[RoundRecord], digest: str) -> None:
    """Writes summary.json and metrics.json.

    Args:
        folder: the run's folder.
        config: of the run.
        records: of the rounds that have closed, in order; a site that came late may still lack some.
        digest: of the model that the writer holds; empty for none.
    """
    write_summary(folder, _summary(config, records))
    write_json(folder / "metrics.json", {"rounds": [_finite(asdict(record)) for record in records], "digest": digest})


def _summary(config: ExternalTrainingConfig, records: Sequence[RoundRecord]) -> Summary:
    account = ParticipationAccount.of("round", ())
    for record in records:
        account.enter(record.weights, record.late, {**record.lost, **record.refused})
    names = sorted({name for record in records for values in record.values.values() for name in values})
    rows = tuple(_row(record, names) for record in records)
    charts = tuple(_chart(name, records) for name in names)
    title = f"{len(records)} of {config.rounds} rounds"
    table = SummaryTable(columns=("round", "contributors", "weight", *names), rows=rows)
    section = SummarySection(title="Rounds", table=table, charts=charts)
    return Summary(title=title, sections=(section,), accounts={MODEL: account})


def _row(record: RoundRecord, names: Sequence[str]) -> tuple[Cell, ...]:
    return (
        record.number,
        len(record.weights),
        sum(record.weights.values()),
        *(_mean(record, name) for name in names),
    )


def _mean(record: RoundRecord, name: str) -> float | None:
    """A value averaged over those that measured it, by weight."""
    having = [(record.weights[site], values[name]) for site, values in record.values.items() if name in values]
    total = sum(weight for weight, _ in having)
    return sum(weight * value for weight, value in having) / total if total else None


def _chart(name: str, records: Sequence[RoundRecord]) -> SummaryChart:
    sites = sorted({site for record in records for site in record.values if name in record.values[site]})
    lines = {
        site: tuple((float(r.number), r.values[site][name]) for r in records if name in r.values.get(site, {}))
        for site in sites
    }
    return SummaryChart(title=name, across="round", lines=lines)


def _finite(value: object) -> object:
    """The same with texts for what JSON does not know, a loss that is infinite or no number."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value
