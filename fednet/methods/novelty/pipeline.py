"""The steps of the run's job, one function each, in the order in which the source's example takes them.

A step that measures is done once in a run (`Journal`); a step that only prepares is done again after a stop, since a
site's own detector comes back from its checkpoint and calibration is cheap. Knows how to ask and not whom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fednet.api import Network, Progress, Question, RoundRecord
from fednet.data.datasets import ImageSet, Splits
from fednet.errors import DataError
from fednet.methods.common.journal import Journal
from fednet.methods.novelty import services
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.inference import NoveltyInference, infer, scores_by_site, shared_scores
from fednet.methods.novelty.labels import Labels, format_labels
from fednet.methods.novelty.messages import DETECTOR, OWN_DETECTOR, NoveltyCapabilities
from fednet.metrics.novelty import nearest_distance, softmax_doubt

SHARED_DETECTOR, OWN_DETECTORS = "detector of the rounds", "own detectors, lowest ratio"
NEAREST_NEIGHBOUR, MAX_SOFTMAX = "baseline: nearest neighbour", "baseline: largest softmax"


@dataclass(frozen=True)
class NoveltyPipeline:
    """What all steps need.

    Attributes:
        config: of the run.
        network: reaches the sites.
        capabilities: of the sites, by name in sorted order.
        splits: pictures that no site learns from: `judge` and `test`.
        journal: what was measured already.
        progress: hears of every step.
    """

    config: NoveltyConfig
    network: Network
    capabilities: dict[str, NoveltyCapabilities]
    splits: Splits
    journal: Journal
    progress: Progress

    def dealt(self, lists: Sequence[Labels]) -> dict[str, Labels]:
        """Lists of labels dealt in turn to the sites, in the order of their names."""
        return {site: lists[index % len(lists)] for index, site in enumerate(self.capabilities)}

    def test(self, labels: Sequence[int], count: int | None = None) -> ImageSet:
        """The first test pictures of some labels."""
        test = self.splits.test
        return test.subset(torch.isin(test.labels, torch.tensor(labels)).nonzero().flatten()[:count])

    def novel(self) -> Labels:
        """The labels that no detector is trained on."""
        inside = self.config.flow.inside()
        return tuple(label for label in range(len(self.splits.test.classes)) if label not in inside)


def require_possible(job: NoveltyPipeline) -> None:
    """Looks whether the sites have what the steps need, before hours of work.

    Raises:
        DataError: a site lacks a label, or pictures to calibrate with.
    """
    flow, classes = job.config.flow, len(job.splits.test.classes)
    if unknown := sorted({*flow.first, *flow.unseen, *flow.known(), *flow.inside()} - set(range(classes))):
        raise DataError(f"flow names the labels {unknown}; there are 0..{classes - 1}")
    needs = {site: set(own) for site, own in job.dealt(flow.shares).items()}
    needs[min(needs)] |= set(flow.first)
    if flow.detector_rounds:
        needs = {site: needs[site] | set(own) for site, own in job.dealt(flow.belongs).items()}
        _require_calibration(job)
    for site, labels in needs.items():
        if lacking := labels - set(job.capabilities[site].labels()):
            raise DataError(f"{site} has no pictures of label {format_labels(lacking)}: change partition, or flow")


def _require_calibration(job: NoveltyPipeline) -> None:
    least = round(1 / job.config.detector.score.false_alarms) - 1
    for site, labels in job.dealt(job.config.flow.belongs).items():
        if (held := sum(job.capabilities[site].held_out[label] for label in labels)) < least:
            raise DataError(
                f"{site} holds out {held} pictures of {format_labels(labels)}; a false-alarm rate of "
                f"{job.config.detector.score.false_alarms:g} needs {least}: raise held_out, or allow more false alarms"
            )
    if not job.novel():
        raise DataError("flow.belongs has every label: leave some out, or set flow.detector_rounds to 0")


def broadcast_first_model(job: NoveltyPipeline) -> dict[str, Any]:
    """One site trains on a few labels, and its model is set everywhere: accuracies and digests by site."""
    flow, teacher = job.config.flow, min(job.capabilities)

    def measure() -> dict[str, Any]:
        job.progress.report(f"{teacher} trains alone", 0, 2)
        services.train(job.network, flow.first, nodes=[teacher], epochs=flow.first_epochs, fresh=True)
        alone = services.validate(job.network, pictures=job.test(flow.first), nodes=[teacher])[teacher]
        content = services.get_model(job.network, teacher)
        job.progress.report("its model is set everywhere", 1, 2)
        closed = services.set_model(job.network, content, key="first-labels")
        seen = services.validate(job.network, pictures=job.test(flow.first))
        unseen = services.validate(job.network, pictures=job.test(flow.unseen))
        return {
            "teacher": teacher,
            "alone": asdict(alone),
            "seen": {site: asdict(found) for site, found in seen.items()},
            "unseen": {site: asdict(found) for site, found in unseen.items()},
            "closed": as_json(closed),
        }

    return job.journal.once("first-labels", measure)


def classifier_rounds(job: NoveltyPipeline) -> list[dict[str, Any]]:
    """Rounds of FedProx with a list of labels at each site: after each, the accuracy on all of these labels."""
    flow = job.config.flow

    def measure(number: int) -> dict[str, Any]:
        (closed,) = services.run_training_rounds(
            job.network,
            job.dealt(flow.shares),
            key=f"classifier-{number}",
            federation=job.config.federation,
            mu=flow.mu,
        )
        found = services.validate(job.network, pictures=job.test(flow.known()))
        best = max(found.values(), key=lambda one: one.accuracy)
        job.progress.report("rounds of the classifier", number, flow.rounds, accuracy=best.accuracy)
        return {"closed": as_json(closed), "sites": {site: asdict(one) for site, one in found.items()}}

    return [job.journal.once(f"classifier-{number}", partial(measure, number)) for number in range(1, flow.rounds + 1)]


def detector_rounds(job: NoveltyPipeline) -> list[dict[str, Any]]:
    """Rounds of the shared detector, with the labels that belong at each site; then one threshold for all."""
    flow = job.config.flow
    belongs = job.dealt(flow.belongs)

    def measure(number: int) -> dict[str, Any]:
        (closed,) = services.run_training_rounds(
            job.network, belongs, key=f"detector-{number}", federation=job.config.federation, model=DETECTOR
        )
        losses = [values["loss"] for values in closed.values.values() if "loss" in values]
        job.progress.report(
            "rounds of the detector", number, flow.detector_rounds, loss=sum(losses) / max(1, len(losses))
        )
        return {"closed": as_json(closed)}

    numbers = range(1, flow.detector_rounds + 1)
    held = [job.journal.once(f"detector-{number}", partial(measure, number)) for number in numbers]
    job.progress.report("calibrating together", 0, 1)
    services.calibrate_together(job.network, belongs, job.config.detector.score.false_alarms)
    return held


def train_own_detectors(job: NoveltyPipeline) -> None:
    """A detector at every site alone, with a threshold of its own; no weight leaves a site."""
    job.progress.report("own detectors", 0, 2)
    services.train(job.network, job.dealt(job.config.flow.belongs), model=OWN_DETECTOR)
    job.progress.report("own detectors are calibrated", 1, 2)
    services.calibrate(job.network)


def score_test_images(job: NoveltyPipeline) -> dict[str, Any]:
    """The scores of test pictures, half of which belong, by all detectors and baselines: {name: inside, outside}."""

    def measure() -> dict[str, Any]:
        half = job.config.flow.tested // 2
        inside, outside = job.test(job.config.flow.inside(), half), job.test(job.novel(), half)
        images = torch.cat([inside.images, outside.images])
        together = shared_scores(job.network, images, job.progress)
        alone = scores_by_site(job.network, images, job.progress)
        named: dict[str, tuple[Tensor, float | None]] = {
            SHARED_DETECTOR: (together.ratio(), 1.0),
            OWN_DETECTORS: (alone.ratio(), 1.0),
            **{f"{site} alone": (scores, alone.thresholds[site]) for site, scores in alone.by_site.items()},
            "own detectors, lowest score": (alone.lowest(), None),
            NEAREST_NEIGHBOUR: (nearest_distance(images, _reference(job)), None),
            MAX_SOFTMAX: (_softmax_doubt(job, images), None),
        }
        return {
            name: {
                "inside": scores[: len(inside)].tolist(),
                "outside": scores[len(inside) :].tolist(),
                "threshold": limit,
            }
            for name, (scores, limit) in named.items()
        } | {"thresholds": {"together": dict(together.thresholds), "alone": dict(alone.thresholds)}}

    return job.journal.once("trials", measure)


def infer_examples(job: NoveltyPipeline) -> list[tuple[int, NoveltyInference]]:
    """Some test pictures that belong and some that do not, with their labels, reconstructions and uncertainty."""
    flow = job.config.flow
    half = flow.pictured // 2
    parts = [job.test(flow.inside(), flow.pictured - half), job.test(job.novel(), half)]
    found: list[tuple[int, NoveltyInference]] = []
    for pictures in parts:
        for image, label in zip(pictures.images, pictures.labels.tolist(), strict=True):
            job.progress.report("showing pictures", len(found), flow.pictured)
            found.append((label, infer(job.network, image, passes=flow.passes, keep=True)))
    return found


def as_json(closed: RoundRecord) -> dict[str, Any]:
    """The record of a round as JSON can say it."""
    return asdict(closed)


def _reference(job: NoveltyPipeline) -> Tensor:
    """Pictures that belong and that nobody learnt from: what a nearest neighbour may compare with."""
    judge = job.splits.judge
    return judge.images[torch.isin(judge.labels, torch.tensor(job.config.flow.inside()))]


def _softmax_doubt(job: NoveltyPipeline, images: Tensor) -> Tensor:
    """One minus the largest probability that the first site's classifier gives, which is everybody's."""
    replies = job.network.ask(Question("classify", {"images": images}, {}, (min(job.capabilities),)))
    return softmax_doubt(next(iter(replies.by_node.values()))["logits"])
