"""The rounds that all sites of the method `external-training` request, and what a run of them leaves in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from fednet.api import RoundPlan, RoundRecord
from fednet.methods.common.report import NOT_PRIVATE
from fednet.methods.external_training.config import ExternalTrainingConfig
from fednet.privacy.config import PrivacyTerms
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

EPSILONS = {"epsilon_rdp": "RDP", "epsilon_prv": "PRV", "epsilon_alone": "of its changes alone, RDP"}
"""What a site says of its ledger, and the columns' titles; see `protection.ClientProtection.spent`."""


def round_plan(config: ExternalTrainingConfig) -> RoundPlan:
    """The rounds of a run, the same whoever requests them."""
    return RoundPlan("external-training", MODEL, TRAIN, config.rounds, config.federation)


def write_results(
    folder: Path,
    config: ExternalTrainingConfig,
    records: Sequence[RoundRecord],
    digest: str,
    own: Mapping[str, Mapping[str, float]] = {},
) -> None:
    """Writes summary.json and metrics.json.

    Args:
        folder: the run's folder.
        config: of the run.
        records: of the rounds that have closed, in order; a site that came late may still lack some.
        digest: of the model that the writer holds; empty for none.
        own: what the ledger of the writer's site holds by now, by its name; empty where nothing is protected.
    """
    write_summary(folder, _summary(config, records, own))
    write_json(folder / "metrics.json", {"rounds": [_finite(asdict(record)) for record in records], "digest": digest})


def _summary(
    config: ExternalTrainingConfig, records: Sequence[RoundRecord], own: Mapping[str, Mapping[str, float]]
) -> Summary:
    account = ParticipationAccount.of("round", ())
    for record in records:
        account.enter(record.weights, record.late, {**record.lost, **record.refused})
    measured = {name for record in records for values in record.values.values() for name in values}
    names = sorted(measured if config.privacy is None else measured - {*EPSILONS, "private"})
    rows = tuple(_row(record, names) for record in records)
    charts = tuple(_chart(name, records) for name in names)
    title = f"{len(records)} of {config.rounds} rounds"
    table = SummaryTable(columns=("round", "contributors", "weight", *names), rows=rows)
    section = SummarySection(title="Rounds", table=table, charts=charts)
    privacy = () if config.privacy is None else (_privacy(config, config.privacy, records, own),)
    return Summary(title=title, sections=(section, *privacy), accounts={MODEL: account})


def _privacy(
    config: ExternalTrainingConfig,
    terms: PrivacyTerms,
    records: Sequence[RoundRecord],
    own: Mapping[str, Mapping[str, float]],
) -> SummarySection:
    """What each site has spent: the largest that it has said, or that its ledger holds where the writer has it."""
    said = [record.values for record in records] + [own]
    rows = [
        (name, *(_most(said, name, key) for key in EPSILONS), terms.delta)
        for name in sorted({name for values in said for name in values})
    ]
    observer = "an observer of the sums" if config.federation.secure is not None else "an observer of its changes"
    notes = [f"Each epsilon is of a whole site, against {observer}; of other sites, as of their last contribution."]
    if any(values.get("private") == 0.0 for each in said for values in each.values()):
        notes.append(f"{NOT_PRIVATE}: noise came from the run's seed, and anyone who knows the seed can remove it.")
    columns = ("site", *(f"epsilon ({title})" for title in EPSILONS.values()), "delta")
    return SummarySection(title="Privacy", table=SummaryTable(columns=columns, rows=tuple(rows)), notes=tuple(notes))


def _most(said: Sequence[Mapping[str, Mapping[str, float]]], site: str, key: str) -> float:
    return max((values[site][key] for values in said if key in values.get(site, {})), default=0.0)


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
