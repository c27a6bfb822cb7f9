"""What a run shows and leaves: tables, figures, who contributed to which rounds, and every number behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fednet.methods.common.report import non_empty, round_accounts, value_charts
from fednet.methods.novelty import figures
from fednet.methods.novelty.config import FlowLabels, NoveltyConfig
from fednet.methods.novelty.findings import (
    MAX_SOFTMAX,
    NEAREST_NEIGHBOUR,
    OWN_DETECTORS,
    SHARED_DETECTOR,
    DetectorScores,
    FirstModel,
    NoveltyFindings,
    NoveltyTrials,
)
from fednet.methods.novelty.inference import Reconstructions
from fednet.methods.novelty.labels import named_labels
from fednet.methods.novelty.messages import CLASSIFIER, DETECTOR, OWN_DETECTOR
from fednet.metrics.novelty import alarm_rate, auroc
from fednet.reporting.record import RunRecord, write_json
from fednet.reporting.summary import Cell, Summary, SummaryChart, SummaryFigure, SummarySection, SummaryTable
from fednet.reporting.tables import plural


def summarise(config: NoveltyConfig, findings: NoveltyFindings, sites: Sequence[str], labels: FlowLabels) -> Summary:
    """What a reader is shown of the findings so far."""
    detector_rounds = [held.closed for held in findings.detector]
    sections = [
        SummarySection(title="Rounds of the classifier", table=_rounds(labels, findings), charts=_accuracies(findings)),
        SummarySection(title="Rounds of the detector", charts=value_charts(detector_rounds, {"loss": "training loss"})),
        SummarySection(title="Pictures", table=_example_table(findings), figures=_example_figures(findings)),
    ]
    if findings.first is not None:
        sections.insert(0, _first_section(labels, findings.first))
    if findings.trials is not None:
        sections.insert(-1, _trials_section(config, labels, findings.trials))
    title = plural("site", len(sites))
    rounds = {CLASSIFIER: [held.closed for held in findings.rounds], DETECTOR: detector_rounds}
    return Summary(
        title=f"{title}; {_named(labels, labels.inside())} belong" if findings.trials else title,
        sections=non_empty(sections),
        accounts=round_accounts(rounds, sites),
    )


def _named(labels: FlowLabels, chosen: Iterable[int]) -> str:
    return named_labels(chosen, labels.classes)


def write_metrics(folder: Path, findings: NoveltyFindings) -> None:
    """Writes the figures, the TensorBoard events and metrics.json: every number."""
    rates, trials = {}, findings.trials
    if trials is not None:
        rates, both = _rates(trials), _with_novel(trials)
        shown = {name: both[name] for name in (SHARED_DETECTOR, OWN_DETECTORS) if name in both}
        if shown:
            figures.write_histograms(folder / _SCORES.file, shown)
            figures.write_roc_curves(folder / _ROC.file, both)
    for kind, figure in _PICTURES.items():
        if rows := _picture_rows(findings, kind):
            figures.write_reconstructions(folder / figure.file, rows)
    with RunRecord(folder, "driver") as record:
        for number, held in enumerate(findings.rounds, 1):
            for site, validation in held.sites.items():
                record.scalar(f"accuracy/{site}", validation.accuracy, number)
    numbers = {
        "first": findings.first and asdict(findings.first),
        "rounds": [asdict(held) for held in findings.rounds],
        "detector": [asdict(held) for held in findings.detector],
        "trials": {} if trials is None else {**asdict(trials)["detectors"], "thresholds": asdict(trials)["thresholds"]},
        "rates": rates,
        "shown": _inferences(findings),
    }
    write_json(folder / "metrics.json", numbers)


_SCORES = SummaryFigure(title="Scores in thresholds of test pictures", file="figures/scores.png")
_ROC = SummaryFigure(title="ROC; the dots are the calibrated thresholds", file="figures/roc.png")
_PICTURES = {
    DETECTOR: SummaryFigure(title="Reconstructions by the detector of the rounds", file="figures/pictures.png"),
    OWN_DETECTOR: SummaryFigure(
        title="Reconstructions by the own detector with the lowest ratio", file="figures/pictures-own.png"
    ),
}


def _first_section(labels: FlowLabels, first: FirstModel) -> SummarySection:
    """Accuracies of the first model on what it was trained on and on what it never saw, by site."""
    rows: list[tuple[Cell, ...]] = [
        (f"{first.teacher}, before", first.alone.accuracy if first.alone else None, None, None)
    ]
    digests = {site: one.digest for site, one in (*first.seen.items(), *first.unseen.items())}
    for site, digest in sorted(digests.items()):
        both = (one[site].accuracy if site in one else None for one in (first.seen, first.unseen))
        rows.append((site, *both, digest[:16]))
    trained, unseen_labels = _named(labels, labels.first), _named(labels, labels.unseen)
    columns = ("site", f"accuracy on {trained}", f"on {unseen_labels}, never seen", "model")
    same = len(set(digests.values())) <= 1
    return SummarySection(
        title="One site's model, set everywhere",
        table=SummaryTable(columns=columns, rows=tuple(rows)),
        notes=("The same bytes at every site." if same else "The sites do NOT have the same model.",),
    )


def _rounds(labels: FlowLabels, findings: NoveltyFindings) -> SummaryTable | None:
    """Accuracy by round, on all labels and on each."""
    known = labels.known()
    rows: list[tuple[Cell, ...]] = []
    for number, held in enumerate(findings.rounds, 1):
        all_sites = held.together
        by_label = (all_sites.by_label.get(label) for label in known)
        rows.append((number, all_sites.accuracy, *by_label, all_sites.digest[:16]))
    columns = ("round", f"accuracy on {_named(labels, known)}", *(labels.classes[label] for label in known), "model")
    return SummaryTable(columns=columns, rows=tuple(rows)) if rows else None


def _accuracies(findings: NoveltyFindings) -> tuple[SummaryChart, ...]:
    points = tuple((float(number), held.together.accuracy) for number, held in enumerate(findings.rounds, 1))
    return (SummaryChart(title="accuracy", across="round", lines={"all sites": points}),) if points else ()


def _trials_section(config: NoveltyConfig, labels: FlowLabels, trials: NoveltyTrials) -> SummarySection:
    rows = [(name, one["auroc"], one["fpr"], one["tpr"], one["threshold"]) for name, one in _rates(trials).items()]
    return SummarySection(
        title="What belongs and what does not",
        table=SummaryTable(columns=("detector", "AUROC", "FPR", "TPR", "threshold"), rows=tuple(rows)),
        notes=_notes(config, labels, trials),
        figures=(_SCORES, _ROC) if SHARED_DETECTOR in _with_novel(trials) else (),
    )


def _rates(trials: NoveltyTrials) -> dict[str, dict[str, float | None]]:
    """AUROC, FPR and TPR by detector; the rates at its threshold, where it has one, of the pictures that there are."""
    rates: dict[str, dict[str, float | None]] = {}
    for name, scores in trials.detectors.items():
        low, high, limit = torch.tensor(scores.inside), torch.tensor(scores.outside), scores.threshold
        false, true = (None if limit is None or not len(some) else alarm_rate(some, limit) for some in (low, high))
        area = auroc(low, high) if len(low) and len(high) else None
        rates[name] = {"auroc": area, "fpr": false, "tpr": true, "threshold": limit}
    return rates


def _with_novel(trials: NoveltyTrials) -> dict[str, DetectorScores]:
    """The detectors of which there are scores of both kinds of pictures."""
    return {name: scores for name, scores in trials.detectors.items() if scores.inside and scores.outside}


def _notes(config: NoveltyConfig, labels: FlowLabels, trials: NoveltyTrials) -> tuple[str, ...]:
    shared = trials.detectors[SHARED_DETECTOR]
    inside, rate = _named(labels, labels.inside()), config.detector.score.false_alarms
    if trials.held_out:
        return _held_out_notes(shared, inside, rate)
    count = len(shared.inside)
    own = (
        f"{OWN_DETECTORS}: no weights are shared; the threshold is calibrated on further pictures that belong, or is "
        "1, where every site calls a picture novel, if these are too few."
    )
    return (
        f"{count} test pictures of {inside}, which belong, and as many of other classes, which are novel.",
        f"Thresholds come from pictures that the sites held out, at a false-alarm rate of {rate:g}.",
        "Where the threshold is 1, scores are counted in thresholds.",
        own,
        f"{NEAREST_NEIGHBOUR}: among pictures of all classes that belong, which no federation has in one place.",
        f"{MAX_SOFTMAX}: of the classifier of the rounds.",
    )


def _held_out_notes(shared: DetectorScores, inside: str, rate: float) -> tuple[str, ...]:
    counted = (
        f"{len(shared.inside)} pictures of {inside}, which belong, and {len(shared.outside)} of the sites' other "
        "classes, which are novel: the sites hold them out, and send their scores and nothing else of them."
    )
    met = (
        f"The thresholds come from the same pictures that belong, at a false-alarm rate of {rate:g}: the FPR is no "
        "test of them. Where the threshold is 1, scores are counted in thresholds."
    )
    left = (
        f"Left out are {OWN_DETECTORS}, their joint threshold and the baselines: they need pictures that all sites "
        "score (measure.data). Until there are some, a picture is novel where every site calls it so."
    )
    return counted, met, left


def _picture_rows(findings: NoveltyFindings, kind: str) -> list[tuple[str, torch.Tensor, Reconstructions]]:
    rows = []
    for label, inference in findings.shown:
        decisions = inference.verdicts.get(kind, {})
        site = min(decisions, key=lambda name: decisions[name].ratio, default=None)
        if site is None or site not in inference.reconstructions.get(kind, {}):
            continue
        decision, classes = inference.verdict(kind), inference.classes
        text = f"{classes[label]}, classified as {classes[inference.together.prediction]}\n"
        text += f"{'novel' if decision.is_ood else 'belongs'}: {decision.ratio:.2f} thresholds"
        rows.append((text, inference.image, inference.reconstructions[kind][site]))
    return rows


def _example_figures(findings: NoveltyFindings) -> tuple[SummaryFigure, ...]:
    return tuple(figure for kind, figure in _PICTURES.items() if _picture_rows(findings, kind))


def _example_table(findings: NoveltyFindings) -> SummaryTable | None:
    """What all sites together infer of the pictures that are shown."""
    rows: list[tuple[Cell, ...]] = []
    columns: tuple[str, ...] = ()
    for label, inference in findings.shown:
        names, lines = inference.table()
        columns, rows = ("picture of", *names[1:]), [*rows, (inference.classes[label], *lines[-1][1:])]
    return SummaryTable(columns=columns, rows=tuple(rows)) if rows else None


def _inferences(findings: NoveltyFindings) -> list[dict[str, Any]]:
    """What every site infers of the pictures that are shown."""
    inferences = []
    for label, inference in findings.shown:
        columns, rows = inference.table()
        table = [dict(zip(columns, row, strict=True)) for row in rows]
        inferences.append({"label": inference.classes[label], "sites": table, "missing": dict(inference.missing)})
    return inferences
