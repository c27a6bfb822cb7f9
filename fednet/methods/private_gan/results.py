"""What a run shows and leaves: epsilons by site, samples, curves, the audit, and every number behind them.

Says NOT PRIVATE wherever the noise was no secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fednet.methods.common.report import (
    NOT_PRIVATE,
    evenly_chosen,
    grid_figures,
    non_empty,
    round_accounts,
    value_charts,
)
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.findings import PrivateGanFindings
from fednet.methods.private_gan.messages import CLASSIFIER, GAN, PrivacyStatement
from fednet.reporting.animation import ANIMATION
from fednet.reporting.record import RunRecord, write_json
from fednet.reporting.summary import Cell, Summary, SummaryChart, SummarySection, SummaryTable
from fednet.reporting.tables import plural

LOSSES = {
    "generator_loss": "loss of the generator",
    "drawn_loss": "loss of the discriminator on generated pictures",
    "real_loss": "loss of the discriminator on real pictures",
}
EPSILONS = {
    "epsilon_rdp": "epsilon RDP, largest of all sites",
    "epsilon_prv": "epsilon PRV, largest of all sites",
}


def summarise(config: PrivateGanConfig, findings: PrivateGanFindings, sites: Sequence[str]) -> Summary:
    """What a reader is shown of the findings so far."""
    records = (*findings.rounds, *findings.classifier_rounds)
    sections = (
        SummarySection(
            title="Privacy", table=_privacy(findings), notes=_notes(config, findings),
            charts=value_charts(records, EPSILONS, combine=max),
        ),
        SummarySection(
            title="Samples", table=_samples(findings), notes=_animated(findings),
            figures=grid_figures([frame.round for frame in findings.frames], "untrained"), charts=_frechet(findings),
        ),
        SummarySection(title="Losses", notes=_undisclosed(config), charts=value_charts(records, LOSSES)),
        SummarySection(title="Membership inference", table=_audit(findings), notes=_audit_notes(findings)),
        SummarySection(title="Classifier", table=_classifier(findings)),
    )  # fmt: skip
    return Summary(
        title=_title(config, findings, sites),
        sections=non_empty(sections),
        accounts=round_accounts({GAN: findings.rounds, CLASSIFIER: findings.classifier_rounds}, sites),
    )


def write_metrics(folder: Path, config: PrivateGanConfig, findings: PrivateGanFindings) -> None:
    """Writes TensorBoard's events and metrics.json: every number."""
    with RunRecord(folder, "driver") as record:
        for number, evaluation in findings.evaluations:
            record.scalar("frechet", evaluation.frechet, number)
    numbers = {
        "private": findings.private,
        "mark": "" if findings.private else NOT_PRIVATE,
        "level": config.privacy.level,
        "privacy": {name: statement.model_dump() for name, statement in findings.privacy.items()},
        "frames": [frame.numbers() for frame in findings.frames],
        "rounds": [asdict(record) for record in findings.rounds],
        "classifier_rounds": [asdict(record) for record in findings.classifier_rounds],
        "audit": {name: asdict(attack) for name, attack in findings.audit.items()},
        "accuracy": findings.accuracy,
        "stopped": findings.stopped,
    }
    write_json(folder / "metrics.json", numbers)


def _title(config: PrivateGanConfig, findings: PrivateGanFindings, sites: Sequence[str]) -> str:
    title = f"{plural('site', len(sites))}, {config.model.kind}"
    if not findings.private:
        return f"{title}, {NOT_PRIVATE}"
    worst = max((statement.epsilon_rdp or 0.0 for statement in findings.privacy.values()), default=0.0)
    bound = "at most " if _ahead(findings) else ""
    return f"{title}, epsilon {bound}{worst:.3g} at delta {config.privacy.delta:g} for every {config.privacy.level}"


def _ahead(findings: PrivateGanFindings) -> list[str]:
    """The sites whose epsilon is an upper bound, since it counts rounds that may not have been released."""
    return sorted(name for name, statement in findings.privacy.items() if statement.ahead)


def _privacy(findings: PrivateGanFindings) -> SummaryTable:
    columns = ("site", "private", "protects", "noise", "rate", "clip", "epsilon RDP", "epsilon PRV", "delta", "budget")
    rows: list[tuple[Cell, ...]] = [(name, *_terms(one)) for name, one in sorted(findings.privacy.items())]
    return SummaryTable(columns=columns, rows=tuple(rows))


def _terms(statement: PrivacyStatement) -> tuple[Cell, ...]:
    private = "yes" if statement.private else NOT_PRIVATE
    spent = (statement.epsilon_rdp, statement.epsilon_prv, statement.delta, statement.budget)
    return (private, statement.level, statement.noise, statement.rate, statement.clip, *spent)


def _notes(config: PrivateGanConfig, findings: PrivateGanFindings) -> tuple[str, ...]:
    notes, level = [], config.privacy.level
    if findings.stopped:
        notes.append(f"Stopped: {findings.stopped}.")
    if ahead := _ahead(findings):
        notes.append(f"The epsilons of {', '.join(ahead)} count rounds that were under way as if they were released.")
    if level == "none":
        notes.append(f"{NOT_PRIVATE}: nothing is protected (privacy.level none).")
    elif any(not statement.private and not statement.disclosed for statement in findings.privacy.values()):
        notes.append(f"{NOT_PRIVATE}: the noise came from the run's seed, and anyone who knows the seed can remove it.")
    if telling := sorted(name for name, statement in findings.privacy.items() if statement.disclosed):
        notes.append(
            f"{NOT_PRIVATE}: {', '.join(telling)} answer, or have answered, from private pictures without noise, which "
            "no epsilon covers (disclose.audit)."
        )
    if level == "example":
        notes.append("Each epsilon is of one picture of that site, against an observer of all that left the site.")
    if level == "client":
        observer = "an observer of the sums" if config.federation.secure is not None else "an observer of its changes"
        notes.append(f"Each epsilon is of a whole site, against {observer}.")
    return tuple(notes)


def _samples(findings: PrivateGanFindings) -> SummaryTable | None:
    measured = findings.evaluations
    if not measured:
        return None
    columns = ("round", "Frechet", "untrained / it", "real floor", "Inception Score")
    first, rows = measured[0][1].frechet, []
    for number, one in evenly_chosen(measured):
        rows.append((number, one.frechet, first / one.frechet, one.floor, one.inception_score))
    return SummaryTable(columns=columns, rows=tuple(rows))


def _animated(findings: PrivateGanFindings) -> tuple[str, ...]:
    return (f"Animation of all rounds: {ANIMATION}",) if len(findings.frames) > 1 else ()


def _frechet(findings: PrivateGanFindings) -> tuple[SummaryChart, ...]:
    measured = findings.evaluations
    if len(measured) < 2:
        return ()
    lines = {
        "samples": tuple((float(number), one.frechet) for number, one in measured),
        "real floor": tuple((float(number), one.floor) for number, one in measured),
    }
    return (SummaryChart(title="Frechet distance", across="round", lines=lines),)


def _undisclosed(config: PrivateGanConfig) -> tuple[str, ...]:
    if config.privacy.level == "none":
        return ()
    return ("No site reports its loss on real pictures: it would depend on them without noise.",)


def _audit(findings: PrivateGanFindings) -> SummaryTable | None:
    if not findings.audit:
        return None
    columns = ("site", "AUC of the loss attack", "AUC of the nearest sample", "members and non-members, each")
    rows = [(name, one.loss, one.nearest, one.count) for name, one in sorted(findings.audit.items())]
    return SummaryTable(columns=columns, rows=tuple(rows))


def _audit_notes(findings: PrivateGanFindings) -> tuple[str, ...]:
    if not findings.audit:
        return ()
    return (
        ".5 is chance. The attacks read private pictures, and non-members are each site's own: no epsilon covers this.",
    )


def _classifier(findings: PrivateGanFindings) -> SummaryTable | None:
    if findings.accuracy is None:
        return None
    return SummaryTable(columns=("measured on", "accuracy"), rows=(("test pictures", findings.accuracy),))
