"""The job of a run: one site's model set everywhere, federated rounds, detectors, and what is novel.

One site trains the classifier on a few labels and its model is set everywhere; rounds of FedProx teach it more; a
detector is trained in rounds and one at every site alone; test pictures, half of them novel, are scored by all. Without
pictures to measure with, the sites measure on those that they hold out, and no picture is scored by two sites.
Measurements are kept in a journal; what only prepares is done again after a stop, since a site's own detector comes
back from its checkpoint and calibration is cheap. The same code runs over the bus and in one process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from fednet.api import Network, Progress, Question
from fednet.data.datasets import ImageSet, Splits
from fednet.errors import DataError
from fednet.methods.common.config import Permission
from fednet.methods.common.job import JobContext, run_stages, summarise_each
from fednet.methods.common.measures import measuring_splits
from fednet.methods.common.measuring_data import unmeasured
from fednet.methods.common.report import with_data
from fednet.methods.novelty import services
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.findings import (
    MAX_SOFTMAX,
    NEAREST_NEIGHBOUR,
    OWN_DETECTORS,
    SHARED_DETECTOR,
    ClassifierRound,
    DetectorRound,
    DetectorScores,
    FirstModel,
    NoveltyFindings,
    NoveltyTrials,
)
from fednet.methods.novelty.inference import NoveltyInference, infer
from fednet.methods.novelty.labels import Labels, named_labels, require_flow
from fednet.methods.novelty.messages import DETECTOR, OWN_DETECTOR, NoveltyCapabilities, read_novelty_capabilities
from fednet.methods.novelty.results import summarise, write_metrics
from fednet.methods.novelty.scoring import calibrate_jointly, scores_by_site, shared_scores
from fednet.methods.novelty.validation import ClassifierValidation
from fednet.metrics.novelty import nearest_distance, softmax_doubt
from fednet.reporting.summary import Summary, write_summary
from fednet.seeds import generator

Steps = Iterator[NoveltyFindings]
"""The findings after every step of a stage."""

JOINT_PICTURES = 100
"""Pictures that calibrate all own detectors together, at most."""


def run_job(config: NoveltyConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:
    """Does the whole job.

    Leaves in `folder`: summary.json (after every step), metrics.json, figures/, journal.jsonl and TensorBoard events.
    A run that is started again in its folder goes on where it was.

    Args:
        config: the steps, and how each is done.
        network: reaches the sites, and knows their capabilities.
        folder: the run's folder.
        seed: the run's seed; the sites have it too, nothing else here is random.
        progress: told of every step; may ask for the end.

    Raises:
        MethodError: the sites do not fit the data or the steps, or none answers.
        Stopped: `progress` asks for the end.
    """
    capabilities = read_novelty_capabilities(network.capabilities)
    splits = measuring_splits(config, capabilities)
    note = "" if splits else unmeasured(config)
    context = NoveltyContext(config, network, capabilities, folder, seed, splits)
    require_possible(context)
    steps = run_stages((_first_model, _classifier_rounds, _detectors), context, NoveltyFindings(), progress)

    def shown(latest: NoveltyFindings) -> Summary:
        return with_data(summarise(config, latest, context.sites, context.labels), capabilities, note)

    findings = summarise_each(steps, shown, folder, NoveltyFindings())
    write_metrics(folder, findings)
    summary = shown(findings)
    write_summary(folder, summary)
    return summary


@dataclass
class NoveltyContext(JobContext[NoveltyConfig, NoveltyCapabilities]):
    """What all stages need, and which labels and pictures belong to which step.

    Attributes:
        splits: pictures that no site learns from; None where nothing is measured with them.
    """

    splits: Splits | None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.labels = self.config.flow.labels(self.capabilities[self.first_site].classes)

    def dealt(self, lists: Sequence[Labels]) -> dict[str, Labels]:
        """Lists of labels dealt in turn to the sites, in the order of their names."""
        return {site: lists[index % len(lists)] for index, site in enumerate(self.capabilities)}

    def validated(self, labels: Labels, nodes: Sequence[str] | None = None) -> dict[str, ClassifierValidation]:
        """How good the classifiers of some sites are at some labels: on test pictures, else on held-out ones."""
        if self.splits is not None:
            return services.validate(self.network, pictures=of_labels(self.splits.test, labels), nodes=nodes)
        held = {site: own for site, own in self.held_out(labels).items() if nodes is None or site in nodes}
        return services.validate(self.network, held, nodes=tuple(held)) if held else {}

    def held_out(self, labels: Labels) -> dict[str, Labels]:
        """By site those of some labels of which it holds pictures out; without the sites that have none."""
        held = {
            name: tuple(label for label in labels if site.held_out[label]) for name, site in self.capabilities.items()
        }
        return {name: own for name, own in held.items() if own}

    def novel(self) -> Labels:
        """The labels that no detector is trained on."""
        classes = self.labels.classes if self.splits is None else self.splits.test.classes
        inside = self.labels.inside()
        return tuple(label for label in range(len(classes)) if label not in inside)


def of_labels(pictures: ImageSet, labels: Sequence[int], count: int | None = None) -> ImageSet:
    """The first pictures of some labels."""
    return pictures.subset(torch.isin(pictures.labels, torch.tensor(labels)).nonzero().flatten()[:count])


def require_possible(context: NoveltyContext) -> None:
    """Checks that the sites have what the steps need, before hours of work.

    Raises:
        DataError: a site lacks a label, a permission, or pictures to answer from.
    """
    detectors = context.config.flow.detector_rounds > 0
    there = {name: site.labels() for name, site in context.capabilities.items()}
    require_flow(context.labels, there, detectors=detectors)
    if detectors:
        _require_permission(context, "disclose.calibrate", "detectors' thresholds", "set flow.detector_rounds to 0")
        _require_calibration(context)
    if context.splits is None:
        _require_permission(context, "disclose.evaluate", "accuracies", "name pictures to measure with (measure.data)")
    _require_answers(context, detectors=detectors)


def _require_answers(context: NoveltyContext, *, detectors: bool) -> None:
    """Checks that no question of the steps is about fewer held-out pictures than the configuration lets a site answer.

    A site whose own configuration asks for more refuses when it is asked.
    """
    labels, asked = context.labels, list[tuple[str, Mapping[str, Labels]]]()
    if context.splits is None:
        asked += [("evaluate", context.held_out(one)) for one in (labels.first, labels.unseen, labels.known())]
    if detectors:
        trials = (labels.inside(), context.novel()) if context.splits is None else ()
        asked += [("calibrate", held) for held in (*map(context.held_out, trials), context.dealt(labels.belongs))]
    for permission, by_site in asked:
        permitted: Permission | None = getattr(context.config.disclose, permission)
        for site, own in by_site.items():
            held = sum(context.capabilities[site].held_out[label] for label in own)
            if permitted is not None and held < permitted.pictures:
                raise DataError(
                    f"{site} holds out {held} pictures of {named_labels(own, labels.classes)}, and answers from "
                    f"{permitted.pictures} or more: raise held_out, or lower disclose.{permission}.pictures"
                )


def _require_permission(context: NoveltyContext, permission: str, what: str, remedy: str) -> None:
    if forbidding := sorted(set(context.sites) - set(context.permitting(permission))):
        raise DataError(
            f"{what} come from held-out pictures, which {', '.join(forbidding)} does not answer from: its owner "
            f"may set {permission} in its configuration ({{}} will do), or {remedy}"
        )


def _require_calibration(context: NoveltyContext) -> None:
    rate = context.config.detector.score.false_alarms
    least = round(1 / rate) - 1
    for site, labels in context.dealt(context.labels.belongs).items():
        if (held := sum(context.capabilities[site].held_out[label] for label in labels)) < least:
            names = named_labels(labels, context.labels.classes)
            raise DataError(
                f"{site} holds out {held} pictures of {names}; a false-alarm rate of {rate:g} needs "
                f"{least}: raise held_out, or allow more false alarms"
            )
    if context.splits is not None and not context.novel():
        raise DataError("flow.belongs has every class: leave some out, or set flow.detector_rounds to 0")


def _first_model(context: NoveltyContext, findings: NoveltyFindings, progress: Progress) -> Steps:
    """One site trains on a few labels, and its model is set everywhere."""
    flow, teacher, network = context.config.flow, context.first_site, context.network
    labels = context.labels

    def measure() -> FirstModel:
        progress.report(f"{teacher} trains alone", 0, 2)
        services.train(network, labels.first, nodes=[teacher], epochs=flow.first_epochs, fresh=True)
        alone = context.validated(labels.first, [teacher]).get(teacher)
        content = services.get_model(network, teacher)
        progress.report("its model is set everywhere", 1, 2)
        closed = services.set_model(network, content, key="first-labels")
        return FirstModel(teacher, alone, context.validated(labels.first), context.validated(labels.unseen), closed)

    yield replace(findings, first=context.journal.once("first-labels", FirstModel, measure))


def _classifier_rounds(context: NoveltyContext, findings: NoveltyFindings, progress: Progress) -> Steps:
    """Rounds of FedProx with a list of labels at each site: after each, the accuracy on all of these labels."""
    flow, network, federation = context.config.flow, context.network, context.config.federation

    def measure(number: int) -> ClassifierRound:
        shares, key = context.dealt(context.labels.shares), f"classifier-{number}"
        (closed,) = services.run_training_rounds(network, shares, key=key, federation=federation, mu=flow.mu)
        held = ClassifierRound(closed, context.validated(context.labels.known()))
        progress.report("rounds of the classifier", number, flow.rounds, accuracy=held.together.accuracy)
        return held

    for number in range(1, flow.rounds + 1):
        held = context.journal.once(f"classifier-{number}", ClassifierRound, partial(measure, number))
        findings = replace(findings, rounds=(*findings.rounds, held))
        yield findings


def _detectors(context: NoveltyContext, findings: NoveltyFindings, progress: Progress) -> Steps:
    """Rounds of the shared detector, one at every site alone, and the scores of test pictures by all."""
    flow, network, federation = context.config.flow, context.network, context.config.federation
    belongs = context.dealt(context.labels.belongs)

    def measure(number: int) -> DetectorRound:
        key = f"detector-{number}"
        (closed,) = services.run_training_rounds(network, belongs, key=key, federation=federation, model=DETECTOR)
        losses = [values["loss"] for values in closed.values.values() if "loss" in values]
        mean = sum(losses) / max(1, len(losses))
        progress.report("rounds of the detector", number, flow.detector_rounds, loss=mean)
        return DetectorRound(closed)

    for number in range(1, flow.detector_rounds + 1):
        held = context.journal.once(f"detector-{number}", DetectorRound, partial(measure, number))
        findings = replace(findings, detector=(*findings.detector, held))
        yield findings
    if flow.detector_rounds:
        _calibrate_detectors(context, progress)
        splits = context.splits
        trials = context.journal.once(
            "trials", NoveltyTrials, lambda: _trials(context, splits, progress) if splits else _held_out_trials(context)
        )
        shown = _examples(context, splits, progress) if splits and context.config.report.real else ()
        yield replace(findings, trials=trials, shown=shown)


def _calibrate_detectors(context: NoveltyContext, progress: Progress) -> None:
    """One threshold for the shared detector; an own one at every site, with its threshold; and a joint one."""
    network, belongs = context.network, context.dealt(context.labels.belongs)
    progress.report("calibrating together", 0, 1)
    services.calibrate_together(network, belongs, context.config.detector.score.false_alarms)
    progress.report("own detectors", 0, 2)
    services.train(network, belongs, model=OWN_DETECTOR)
    progress.report("own detectors are calibrated", 1, 2)
    services.calibrate(network)
    if context.splits is not None:
        images, rate = _reference(context, context.splits), context.config.detector.score.false_alarms
        chosen = torch.randperm(len(images), generator=generator(context.seed, "joint threshold"))[:JOINT_PICTURES]
        if (len(chosen) + 1) * rate >= 1:
            calibrate_jointly(network, images[chosen], rate, progress)


def _trials(context: NoveltyContext, splits: Splits, progress: Progress) -> NoveltyTrials:
    """The scores of test pictures, half of which belong, by all detectors and baselines."""
    half, network = context.config.flow.tested // 2, context.network
    inside = of_labels(splits.test, context.labels.inside(), half)
    outside = of_labels(splits.test, context.novel(), half)
    images = torch.cat([inside.images, outside.images])
    together = shared_scores(network, images, progress)
    alone = scores_by_site(network, images, progress)
    scores: dict[str, tuple[Tensor, float | None]] = {
        SHARED_DETECTOR: (together.ratio(), 1.0),
        OWN_DETECTORS: (alone.ratio(), 1.0 if alone.joint is None else alone.joint),
        **{f"{site} alone": (own, alone.thresholds[site]) for site, own in alone.by_site.items()},
        "own detectors, lowest score": (alone.lowest(), None),
        NEAREST_NEIGHBOUR: (nearest_distance(images, _reference(context, splits)), None),
        MAX_SOFTMAX: (_softmax_doubt(context, images), None),
    }
    count = len(inside)
    detectors = {
        name: DetectorScores(tuple(values[:count].tolist()), tuple(values[count:].tolist()), limit)
        for name, (values, limit) in scores.items()
    }
    return NoveltyTrials(detectors, {"together": dict(together.thresholds), "alone": dict(alone.thresholds)})


def _held_out_trials(context: NoveltyContext) -> NoveltyTrials:
    """The scores of what the sites hold out, computed there: by the shared detector, and by each site's own."""
    inside, novel = context.held_out(context.labels.inside()), context.held_out(context.novel())
    thresholds = {"together": _thresholds(context, DETECTOR), "alone": _thresholds(context, OWN_DETECTOR)}

    def scored(labels: Mapping[str, Labels], model: str) -> dict[str, tuple[float, ...]]:
        scores = services.held_out_scores(context.network, labels, model) if labels else {}
        return {site: tuple(values.tolist()) for site, values in sorted(scores.items())}

    limit = max(*thresholds["together"].values(), 1e-12)
    low, high = (
        tuple(score / limit for scores in scored(some, DETECTOR).values() for score in scores)
        for some in (inside, novel)
    )
    own, own_novel = scored(context.dealt(context.labels.belongs), OWN_DETECTOR), scored(novel, OWN_DETECTOR)
    alone = {
        f"{site} alone": DetectorScores(values, own_novel.get(site, ()), thresholds["alone"].get(site))
        for site, values in own.items()
    }
    return NoveltyTrials({SHARED_DETECTOR: DetectorScores(low, high, 1.0), **alone}, thresholds, held_out=True)


def _thresholds(context: NoveltyContext, model: str) -> dict[str, float]:
    """The thresholds of a detector, by site."""
    stated = {site: models[model]["threshold"] for site, models in services.status(context.network).by_node.items()}
    return {site: float(limit) for site, limit in sorted(stated.items()) if limit is not None}


def _examples(context: NoveltyContext, splits: Splits, progress: Progress) -> tuple[tuple[int, NoveltyInference], ...]:
    """Some test pictures that belong and some novel ones: their labels, reconstructions and uncertainty."""
    flow = context.config.flow
    half = flow.pictured // 2
    inferred: list[tuple[int, NoveltyInference]] = []
    for labels, count in ((context.labels.inside(), flow.pictured - half), (context.novel(), half)):
        pictures = of_labels(splits.test, labels, count)
        for image, label in zip(pictures.images, pictures.labels.tolist(), strict=True):
            progress.report("showing pictures", len(inferred), flow.pictured)
            inferred.append((label, infer(context.network, image, passes=flow.passes, keep=True)))
    return tuple(inferred)


def _reference(context: NoveltyContext, splits: Splits) -> Tensor:
    """Pictures that belong and that no site was trained on, for the nearest neighbour and the joint threshold."""
    return of_labels(splits.judge, context.labels.inside()).images


def _softmax_doubt(context: NoveltyContext, images: Tensor) -> Tensor:
    """One minus the largest probability that the first site's classifier gives; all sites have the same."""
    replies = context.network.ask(Question("classify", {"images": images}, {}, (context.first_site,)))
    return softmax_doubt(next(iter(replies.by_node.values()))["logits"])
