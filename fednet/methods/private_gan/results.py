"""What a run shows and leaves: epsilons by site, samples, curves, the audit, and every number behind them.

Says NOT PRIVATE wherever the noise was no secret. Computes nothing that it does not write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.messages import CLASSIFIER, GAN, NOT_PRIVATE, PrivacyStatement
from fednet.methods.private_gan.pipeline import PrivateGanFindings
from fednet.reporting.animation import ANIMATION, grid_path
from fednet.reporting.record import RunRecord, write_json
from fednet.reporting.summary import (
    Cell,
    ParticipationAccount,
    Summary,
    SummaryChart,
    SummaryFigure,
    SummarySection,
    SummaryTable,
)

LOSSES = {"generator_loss": "generator", "drawn_loss": "discriminator on drawn", "real_loss": "discriminator on real"}
ACCOUNTANT_TITLES = {"epsilon_rdp": "RDP", "epsilon_prv": "PRV"}
MAX_GRIDS = 6
"""Grids, and rows of their table, at most."""


def summarise(config: PrivateGanConfig, found: PrivateGanFindings, sites: Sequence[str]) -> Summary:
    """What a reader is shown of what there is so far."""
    sections: tuple[SummarySection, ...] = (
        SummarySection(title="Privacy", table=_privacy(found), notes=_notes(config, found), charts=_epsilon(found)),
        SummarySection(
            title="Samples",
            table=_worth(found),
            notes=_animation_note(found),
            figures=_grids(found),
            charts=_frechet(found),
        ),
        SummarySection(title="Losses", notes=_undisclosed_note(config), charts=_losses(found)),
        SummarySection(title="Membership inference", table=_audit(found), notes=_audited(found)),
    )
    if found.accuracy is not None:
        sections = (*sections, SummarySection(title="Classifier", table=_classifier_note(found.accuracy)))
    rounds = {GAN: found.rounds, CLASSIFIER: found.classifier_rounds}
    return Summary(
        title=_title(config, found, sites),
        sections=tuple(part for part in sections if part.table or part.figures or part.charts),
        accounts={model: _account(held, sites) for model, held in rounds.items() if held},
    )


def write_metrics(folder: Path, config: PrivateGanConfig, found: PrivateGanFindings) -> None:
    """Writes TensorBoard's events and metrics.json: every number, for whoever computes on with them."""
    with RunRecord(folder, "sampler") as record:
        for frame in found.frames:
            record.scalar("frechet", frame["frechet"], frame["round"])
    write_json(
        folder / "metrics.json",
        {
            "private": all_sites_private(found),
            "mark": "" if all_sites_private(found) else NOT_PRIVATE,
            "level": config.privacy.level,
            "privacy": {name: card.model_dump() for name, card in found.privacy.items()},
            "frames": found.frames,
            "rounds": found.rounds,
            "lessons": found.classifier_rounds,
            "audit": found.audit,
            "accuracy": found.accuracy,
            "stopped": found.stopped,
        },
    )


def all_sites_private(found: PrivateGanFindings) -> bool:
    """Whether every site's pictures are protected by secret noise."""
    return bool(found.privacy) and all(card.private for card in found.privacy.values())


def _title(config: PrivateGanConfig, found: PrivateGanFindings, sites: Sequence[str]) -> str:
    count = f"{len(sites)} site{'s' if len(sites) > 1 else ''}"
    if not all_sites_private(found):
        return f"{count}, {config.model.kind}, {NOT_PRIVATE}"
    worst = max((card.epsilon_rdp or 0.0 for card in found.privacy.values()), default=0.0)
    what = f"epsilon {worst:.3g} at delta {config.privacy.delta:g} for every {config.privacy.level}"
    return f"{count}, {config.model.kind}, {what}"


def _privacy(found: PrivateGanFindings) -> SummaryTable:
    heads = ("site", "private", "protects", "noise", "rate", "clip", "epsilon RDP", "epsilon PRV", "delta", "budget")
    rows: list[tuple[Cell, ...]] = [(name, *_terms(card)) for name, card in sorted(found.privacy.items())]
    return SummaryTable(columns=heads, rows=tuple(rows))


def _terms(card: PrivacyStatement) -> tuple[Cell, ...]:
    said = "yes" if card.private else NOT_PRIVATE
    spent = (card.epsilon_rdp, card.epsilon_prv, card.delta, card.budget)
    return (said, card.level, card.noise, card.rate, card.clip, *spent)


def _notes(config: PrivateGanConfig, found: PrivateGanFindings) -> tuple[str, ...]:
    notes = []
    if found.stopped:
        notes.append(f"Stopped: {found.stopped}.")
    if config.privacy.level == "none":
        notes.append(f"{NOT_PRIVATE}: nothing is protected (privacy.level none).")
    elif not all_sites_private(found):
        notes.append(f"{NOT_PRIVATE}: the noise came from the run's seed, and whoever knows the seed can take it off.")
    if config.privacy.level == "example":
        notes.append("Each epsilon is of one picture of that site, against everybody who sees all that left the site.")
    if config.privacy.level == "client":
        whom = "who sees the sums alone" if config.federation.secure is not None else "everybody who sees its changes"
        notes.append(f"Each epsilon is of a whole site, against {whom}.")
    return tuple(notes)


def _worth(found: PrivateGanFindings) -> SummaryTable | None:
    if not found.frames:
        return None
    heads = ("round", "Frechet", "untrained / it", "real floor", "Inception Score")
    first, rows = found.frames[0]["frechet"], []
    for frame in _evenly_spaced(found.frames):
        better = first / frame["frechet"]
        rows.append((frame["round"], frame["frechet"], better, frame["floor"], frame["inception_score"]))
    return SummaryTable(columns=heads, rows=tuple(rows))


def _animation_note(found: PrivateGanFindings) -> tuple[str, ...]:
    return (f"All rounds as a moving picture: {ANIMATION}",) if len(found.frames) > 1 else ()


def _grids(found: PrivateGanFindings) -> tuple[SummaryFigure, ...]:
    numbers = [frame["round"] for frame in _evenly_spaced(found.frames)]
    stills = (
        SummaryFigure(title=f"after round {k}" if k else "untrained", file=grid_path(k), pixels=True) for k in numbers
    )
    moving = (SummaryFigure(title="all rounds", file=ANIMATION, pixels=True),) if len(found.frames) > 1 else ()
    return (*stills, *moving)


def _evenly_spaced(frames: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first, the last, and some between them."""
    if len(frames) <= MAX_GRIDS:
        return list(frames)
    return [frames[round(k * (len(frames) - 1) / (MAX_GRIDS - 1))] for k in range(MAX_GRIDS)]


def _frechet(found: PrivateGanFindings) -> tuple[SummaryChart, ...]:
    if len(found.frames) < 2:
        return ()
    lines = {
        name: tuple((float(frame["round"]), float(frame[key])) for frame in found.frames)
        for name, key in (("samples", "frechet"), ("real floor", "floor"))
    }
    return (SummaryChart(title="Frechet distance", across="round", lines=lines),)


def _epsilon(found: PrivateGanFindings) -> tuple[SummaryChart, ...]:
    return _charts(
        found, {key: f"epsilon {name}, largest of all sites" for key, name in ACCOUNTANT_TITLES.items()}, max
    )


def _losses(found: PrivateGanFindings) -> tuple[SummaryChart, ...]:
    return _charts(found, {key: f"loss of the {name}" for key, name in LOSSES.items()}, None)


def _charts(found: PrivateGanFindings, named: Mapping[str, str], pick: Any) -> tuple[SummaryChart, ...]:
    """One chart of a kind of values: a line a site, or of what is picked of all sites."""
    charts = []
    for key, title in named.items():
        lines: dict[str, list[tuple[float, float]]] = {}
        for number, one in enumerate((*found.rounds, *found.classifier_rounds), 1):
            told = {site: values[key] for site, values in one["values"].items() if key in values}
            if pick is not None and told:
                told = {"all sites": pick(told.values())}
            for site, value in told.items():
                lines.setdefault(site, []).append((float(number), float(value)))
        if lines:
            done = {site: tuple(points) for site, points in sorted(lines.items())}
            charts.append(SummaryChart(title=title, across="round", lines=done))
    return tuple(charts)


def _undisclosed_note(config: PrivateGanConfig) -> tuple[str, ...]:
    if config.privacy.level == "none":
        return ()
    return ("The loss on real pictures is told by nobody: it is computed from them without noise.",)


def _audit(found: PrivateGanFindings) -> SummaryTable | None:
    if not found.audit:
        return None
    heads = ("site", "AUC of the loss attack", "AUC of the nearest sample", "members and strangers, each")
    rows = [(name, one["loss"], one["nearest"], one["count"]) for name, one in sorted(found.audit.items())]
    return SummaryTable(columns=heads, rows=tuple(rows))


def _audited(found: PrivateGanFindings) -> tuple[str, ...]:
    if not found.audit:
        return ()
    return (".5 is chance. The attacks read private pictures: no epsilon covers what this table says.",)


def _classifier_note(accuracy: float) -> SummaryTable:
    return SummaryTable(columns=("measured on", "accuracy"), rows=(("test pictures", accuracy),))


def _account(held: Sequence[Mapping[str, Any]], sites: Sequence[str]) -> ParticipationAccount:
    account = ParticipationAccount.of("round", sites)
    for one in held:
        account.enter(one["weights"], one["late"], {**one["lost"], **one["refused"]})
    return account
