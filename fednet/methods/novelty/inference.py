"""Inference: the class of a picture, and whether it is novel to all sites.

The classifiers' probabilities are averaged; how the detectors' scores make one decision is in `scoring.py`.

Source: dropout as in Gal and Ghahramani 2016 (arXiv 1506.02142).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fednet.api import Network, Question
from fednet.methods.novelty.messages import OWN_DETECTOR, read_novelty_capabilities
from fednet.methods.novelty.scoring import ALL_SITES, calibrated_sites, checked_scores, known_joint_threshold
from fednet.methods.novelty.services import status


@dataclass(frozen=True)
class ClassPrediction:
    """A picture's class according to the classifier of a site, or of all.

    Attributes:
        prediction: the label.
        confidence: its probability; with dropout, that of the mean logits.
        deviation: of its probability over the passes, the largest of all sites' for all of them; None without dropout.
    """

    prediction: int
    confidence: float
    deviation: float | None = None


@dataclass(frozen=True)
class NoveltyDecision:
    """A detector's decision on a picture.

    Attributes:
        score: median distance of the picture to its reconstructions.
        threshold: that of the detector.
    """

    score: float
    threshold: float

    @property
    def ratio(self) -> float:
        """The score in thresholds."""
        return self.score / max(self.threshold, 1e-12)

    @property
    def is_ood(self) -> bool:
        """Whether the picture is novel ("out of domain")."""
        return self.ratio > 1.0


@dataclass(frozen=True)
class Reconstructions:
    """Reconstructions of a picture.

    Attributes:
        pictures: (k, c, h, w) in [-1, 1].
        known: bool (k, h, w), True where a pixel was given.
    """

    pictures: Tensor
    known: Tensor


@dataclass(frozen=True)
class NoveltyInference:
    """What the cluster infers of one picture.

    Attributes:
        image: (c, h, w).
        classes: the classes' names.
        predictions: by site.
        together: of all sites.
        verdicts: by detector and site, of calibrated detectors.
        lowest: by detector, the smallest raw score of all sites.
        reconstructions: by detector and site, where they were requested.
        missing: which site did not answer, and why.
        joint: the threshold of the smallest ratio of the sites' own detectors; None: 1, every site calls it novel.
    """

    image: Tensor
    classes: tuple[str, ...]
    predictions: Mapping[str, ClassPrediction]
    together: ClassPrediction
    verdicts: Mapping[str, Mapping[str, NoveltyDecision]]
    lowest: Mapping[str, float]
    reconstructions: Mapping[str, Mapping[str, Reconstructions]]
    missing: Mapping[str, str] = field(default_factory=dict)
    joint: float | None = None

    def verdict(self, detector: str) -> NoveltyDecision:
        """The decision of all sites with one of the detectors: that of the site with the smallest ratio.

        Its threshold is that site's, times the joint threshold of the sites' own detectors where there is one.
        """
        lowest = min(self.verdicts[detector].values(), key=lambda verdict: verdict.ratio)
        if detector != OWN_DETECTOR or self.joint is None:
            return lowest
        return NoveltyDecision(lowest.score, lowest.threshold * self.joint)

    def table(self) -> tuple[tuple[str, ...], list[tuple[str | float | bool | None, ...]]]:
        """Column names and rows: each site, then all together; None where nothing is known."""
        columns = ["site", "prediction", "confidence"]
        columns += ["deviation"] if self.together.deviation is not None else []
        for name in self.verdicts:
            columns += [f"{name}: is_ood", f"{name}: score", f"{name}: threshold"]
        rows = [self._row(site, self.predictions.get(site)) for site in self._sites()]
        return tuple(columns), [*rows, self._row(ALL_SITES, self.together)]

    def _sites(self) -> list[str]:
        return sorted({*self.predictions, *(site for decisions in self.verdicts.values() for site in decisions)})

    def _row(self, site: str, prediction: ClassPrediction | None) -> tuple[str | float | bool | None, ...]:
        row: list[str | float | bool | None] = [site]
        row += [None, None] if prediction is None else [self.classes[prediction.prediction], prediction.confidence]
        if self.together.deviation is not None:
            row.append(None if prediction is None else prediction.deviation)
        for name, decisions in self.verdicts.items():
            verdict = self.verdict(name) if site == ALL_SITES else decisions.get(site)
            row += [None] * 3 if verdict is None else [verdict.is_ood, verdict.score, verdict.threshold]
        return tuple(row)


def infer(network: Network, image: Tensor, *, passes: int | None = None, keep: bool = False) -> NoveltyInference:
    """Asks for the class of one picture and whether it is novel.

    Args:
        network: reaches the sites.
        image: float32 (1, c, h, w) or (c, h, w) in [-1, 1].
        passes: of dropout, for the uncertainty; none where None.
        keep: whether to fetch the reconstructions, too.

    Raises:
        MethodError: the picture does not fit the sites', or none answers.
    """
    card = next(iter(read_novelty_capabilities(network.capabilities).values()))
    images = image.reshape(1, *image.shape[-3:])
    predictions, missing = _predictions(network, images, passes)
    verdicts: dict[str, dict[str, NoveltyDecision]] = {}
    reconstructed: dict[str, dict[str, Reconstructions]] = {}
    models_of = status(network).by_node
    for name, sites in calibrated_sites(models_of).items():
        question = Question("score", {"images": images}, {"model": name, "keep": keep}, sites)
        replies = network.ask(question)
        verdicts[name] = {
            site: NoveltyDecision(float(checked_scores(reply, site, 1)), float(reply["threshold"]))
            for site, reply in replies.by_node.items()
        }
        reconstructed[name] = {
            site: Reconstructions(reply["reconstructions"][0], reply["known"].bool())
            for site, reply in replies.by_node.items()
            if keep
        }
        missing |= {f"{site} ({name})": why for site, why in replies.lost.items()}
    return NoveltyInference(
        image=images[0],
        classes=card.classes,
        predictions={site: _prediction(*one) for site, one in predictions.items()},
        together=_combined(predictions),
        verdicts=verdicts,
        lowest={name: min(verdict.score for verdict in decisions.values()) for name, decisions in verdicts.items()},
        reconstructions=reconstructed,
        missing=missing,
        joint=known_joint_threshold(models_of, tuple(verdicts.get(OWN_DETECTOR, ()))),
    )


def _predictions(
    network: Network, images: Tensor, passes: int | None
) -> tuple[dict[str, tuple[Tensor, float | None]], dict[str, str]]:
    """By site the probabilities (classes,) and the deviation; and which sites did not answer."""
    ask, options = ("classify", {}) if passes is None else ("uncertainty", {"passes": passes})
    replies = network.ask(Question(ask, {"images": images}, options))
    predictions: dict[str, tuple[Tensor, float | None]] = {}
    for site, reply in replies.by_node.items():
        deviation = None if passes is None else float(reply["deviation"])
        predictions[site] = reply["logits"][0].double().softmax(0), deviation
    return predictions, dict.fromkeys(replies.late, "late") | dict(replies.lost)


def _prediction(probabilities: Tensor, deviation: float | None) -> ClassPrediction:
    return ClassPrediction(int(probabilities.argmax()), float(probabilities.max()), deviation)


def _combined(predictions: Mapping[str, tuple[Tensor, float | None]]) -> ClassPrediction:
    mean = torch.stack([predictions[site][0] for site in sorted(predictions)]).mean(0)
    known = [deviation for _, deviation in predictions.values() if deviation is not None]
    return _prediction(mean, max(known) if known else None)
