"""What a run shows and leaves: tables, figures, who contributed to which rounds, and every number behind them.

Computes rates from scores, and nothing that it does not write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fednet.methods.novelty import figures
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.inference import NoveltyInference, Reconstructions
from fednet.methods.novelty.labels import format_labels
from fednet.methods.novelty.messages import CLASSIFIER, DETECTOR, OWN_DETECTOR
from fednet.methods.novelty.pipeline import MAX_SOFTMAX, NEAREST_NEIGHBOUR, OWN_DETECTORS, SHARED_DETECTOR
from fednet.metrics.novelty import alarm_rate, auroc
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


@dataclass(frozen=True)
class NoveltyFindings:
    """What the steps of the job found; see `flow`.

    Attributes:
        first: one site's model, set everywhere.
        rounds: of the classifier.
        detector: its rounds.
        trials: scores of test pictures by detector.
        shown: some pictures and what the cluster says of them.
    """

    first: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]] = ()
    detector: Sequence[Mapping[str, Any]] = ()
    trials: Mapping[str, Any] = field(default_factory=dict)
    shown: Sequence[tuple[int, NoveltyInference]] = ()


def summarise(config: NoveltyConfig, found: NoveltyFindings, sites: Sequence[str]) -> Summary:
    """What a reader is shown of what there is so far."""
    inside, count = format_labels(config.flow.inside()), len(sites)
    sections = (
        SummarySection(title="One site's model, set everywhere", table=_first_model_table(config, found), notes=_first_notes(found)),
        SummarySection(title="Rounds of the classifier", table=_rounds(config, found), charts=_accuracies(found)),
        SummarySection(title="Rounds of the detector", charts=_losses(found)),
        SummarySection(
            title="What belongs and what does not", table=_trials(found), notes=_notes(config, found),
            figures=(_SCORES, _ROC) if found.trials else (),
        ),
        SummarySection(title="Pictures", table=_example_table(found), figures=_shown(found)),
    )  # fmt: skip
    rounds = {CLASSIFIER: found.rounds, DETECTOR: found.detector}
    return Summary(
        title=f"{count} site{'s' if count > 1 else ''}; {inside} belong" if found.trials else f"{count} sites",
        sections=tuple(part for part in sections if part.table or part.figures or part.charts),
        accounts={model: _account(held, sites) for model, held in rounds.items() if held},
    )


def write_metrics(folder: Path, found: NoveltyFindings) -> None:
    """Writes the figures, the TensorBoard events and metrics.json: every number, for whoever computes on with them."""
    if found.trials:
        curves = _curves(found)
        figures.write_histograms(
            folder / _SCORES.file, {name: curves[name] for name in (SHARED_DETECTOR, OWN_DETECTORS)}
        )
        figures.write_roc_curves(folder / _ROC.file, curves)
    for kind, figure in _PICTURES.items():
        if rows := _picture_rows(found, kind):
            figures.write_reconstructions(folder / figure.file, rows)
    with RunRecord(folder, "sampler") as record:
        for number, one in enumerate(found.rounds, 1):
            for site, told in one["sites"].items():
                record.scalar(f"accuracy/{site}", told["accuracy"], number)
    numbers = {key: value for key, value in vars(found).items() if key != "shown"}
    write_json(folder / "metrics.json", {**numbers, "rates": _rates(found), "shown": _metrics(found)})


_SCORES = SummaryFigure(title="Scores in thresholds of test pictures", file="figures/scores.png")
_ROC = SummaryFigure(title="ROC; the dots are the calibrated thresholds", file="figures/roc.png")
_PICTURES = {
    DETECTOR: SummaryFigure(title="How the detector of the rounds draws them anew", file="figures/pictures.png"),
    OWN_DETECTOR: SummaryFigure(
        title="How the own detector that knows each best draws it anew", file="figures/pictures-own.png"
    ),
}


def _first_model_table(config: NoveltyConfig, found: NoveltyFindings) -> SummaryTable:
    """Accuracies of the first model on what it was trained on and on what it never saw, by site."""
    first, flow = found.first, config.flow
    rows: list[tuple[Cell, ...]] = [(f"{first['teacher']}, before", first["alone"]["accuracy"], None, None)]
    for site, seen in sorted(first["seen"].items()):
        unseen = first["unseen"].get(site, {}).get("accuracy")
        rows.append((site, seen["accuracy"], unseen, seen["digest"][:16]))
    heads = (
        "site",
        f"accuracy on {format_labels(flow.first)}",
        f"on {format_labels(flow.unseen)}, never seen",
        "model",
    )
    return SummaryTable(columns=heads, rows=tuple(rows))


def _first_notes(found: NoveltyFindings) -> tuple[str, ...]:
    if len({told["digest"] for told in found.first["seen"].values()}) > 1:
        return ("The sites do NOT have the same model.",)
    return ("The same bytes at every site.",)


def _rounds(config: NoveltyConfig, found: NoveltyFindings) -> SummaryTable | None:
    """Accuracy by round, on all labels and on each."""
    labels = config.flow.known()
    rows: list[tuple[Cell, ...]] = []
    for number, one in enumerate(found.rounds, 1):
        site = min(one["sites"])
        told = one["sites"][site]
        by_label = {int(label): accuracy for label, accuracy in told["by_label"].items()}
        rows.append((number, told["accuracy"], *(by_label.get(label) for label in labels), told["digest"][:16]))
    heads = ("round", f"accuracy on {format_labels(labels)}", *map(str, labels), "model")
    return SummaryTable(columns=heads, rows=tuple(rows)) if rows else None


def _accuracies(found: NoveltyFindings) -> tuple[SummaryChart, ...]:
    points = tuple(
        (float(number), min(told["accuracy"] for told in one["sites"].values()))
        for number, one in enumerate(found.rounds, 1)
    )
    return (SummaryChart(title="accuracy", across="round", lines={"all sites": points}),) if points else ()


def _losses(found: NoveltyFindings) -> tuple[SummaryChart, ...]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for number, one in enumerate(found.detector, 1):
        for site, values in one["closed"]["values"].items():
            lines.setdefault(site, []).append((float(number), values["loss"]))
    told = {site: tuple(points) for site, points in sorted(lines.items())}
    return (SummaryChart(title="training loss", across="round", lines=told),) if told else ()


def _rates(found: NoveltyFindings) -> dict[str, dict[str, float | None]]:
    """AUROC, FPR and TPR by detector; the rates at its threshold, where it has one."""
    rates: dict[str, dict[str, float | None]] = {}
    for name, (inside, outside, limit) in _curves(found).items():
        low, high = torch.tensor(inside), torch.tensor(outside)
        false, true = (None, None) if limit is None else (alarm_rate(low, limit), alarm_rate(high, limit))
        rates[name] = {"auroc": auroc(low, high), "fpr": false, "tpr": true, "threshold": limit}
    return rates


def _trials(found: NoveltyFindings) -> SummaryTable | None:
    rows = [(name, told["auroc"], told["fpr"], told["tpr"], told["threshold"]) for name, told in _rates(found).items()]
    return SummaryTable(columns=("detector", "AUROC", "FPR", "TPR", "threshold"), rows=tuple(rows)) if rows else None


def _notes(config: NoveltyConfig, found: NoveltyFindings) -> tuple[str, ...]:
    if not found.trials:
        return ()
    count = len(next(iter(_curves(found).values()))[0])
    inside, rate = format_labels(config.flow.inside()), config.detector.score.false_alarms
    return (
        f"{count} test pictures of {inside}, which belong, and as many of other labels, which are novel.",
        f"Thresholds come from pictures that the sites held out, at a false-alarm rate of {rate:g}.",
        "Where the threshold is 1, scores are counted in thresholds.",
        f"{OWN_DETECTORS}: no weights are shared; a picture is novel where every site calls it so.",
        f"{NEAREST_NEIGHBOUR}: among pictures of all labels that belong, which no federation has in one place.",
        f"{MAX_SOFTMAX}: of the classifier of the rounds.",
    )


def _account(held: Sequence[Mapping[str, Any]], sites: Sequence[str]) -> ParticipationAccount:
    account = ParticipationAccount.of("round", sites)
    for one in held:
        closed = one["closed"]
        account.enter(closed["weights"], closed["late"], {**closed["lost"], **closed["refused"]})
    return account


def _curves(found: NoveltyFindings) -> dict[str, tuple[list[float], list[float], float | None]]:
    return {
        name: (told["inside"], told["outside"], told["threshold"])
        for name, told in found.trials.items()
        if name != "thresholds"
    }


def _picture_rows(found: NoveltyFindings, kind: str) -> list[tuple[str, torch.Tensor, Reconstructions]]:
    rows = []
    for label, told in found.shown:
        sites = told.verdicts.get(kind, {})
        site = min(sites, key=lambda name: sites[name].ratio, default=None)
        if site is None or site not in told.reconstructions.get(kind, {}):
            continue
        verdict = sites[site]
        said = f"{told.classes[label]}, taken for {told.classes[told.together.prediction]}\n"
        said += f"{'novel' if verdict.is_ood else 'belongs'}: {verdict.ratio:.2f} thresholds"
        rows.append((said, told.image, told.reconstructions[kind][site]))
    return rows


def _shown(found: NoveltyFindings) -> tuple[SummaryFigure, ...]:
    return tuple(figure for kind, figure in _PICTURES.items() if _picture_rows(found, kind))


def _example_table(found: NoveltyFindings) -> SummaryTable | None:
    """What all sites together say of the pictures that are shown."""
    rows: list[tuple[Cell, ...]] = []
    heads: tuple[str, ...] = ()
    for label, told in found.shown:
        names, lines = told.table()
        heads, rows = ("picture of", *names[1:]), [*rows, (told.classes[label], *lines[-1][1:])]
    return SummaryTable(columns=heads, rows=tuple(rows)) if rows else None


def _metrics(found: NoveltyFindings) -> list[dict[str, Any]]:
    """What every site says of the pictures that are shown."""
    said = []
    for label, told in found.shown:
        heads, rows = told.table()
        table = [dict(zip(heads, row, strict=True)) for row in rows]
        said.append({"label": told.classes[label], "sites": table, "missing": dict(told.missing)})
    return said
