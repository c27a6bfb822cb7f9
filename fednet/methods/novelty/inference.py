"""Inference: the class of a picture, and whether it is novel to all sites.

The classifiers' probabilities are averaged. Each site's detector has a threshold of its own, so each score is divided
by it, and the smallest of these ratios decides: a picture is novel where every site calls it so. With the shared
detector all sites agree; with their own detectors no weights are shared, and the smallest ratio is the federated score.

The smallest of K ratios exceeds 1 the more rarely, the more sites there are: where all know a picture equally well and
their scores err independently, a rate of false alarms alpha becomes alpha^K and a power beta becomes beta^K.
`joint_threshold` calibrates the smallest ratio itself, on pictures that belong and that the asker holds, since no site
may see another's.

Source: the minimum over sites is fednet's; dropout as in Gal and Ghahramani 2016 (arXiv 1506.02142).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fednet.api import Network, Progress, Question
from fednet.errors import MethodError
from fednet.methods.common.inputs import described
from fednet.methods.novelty.detector import lowest_scores
from fednet.methods.novelty.messages import DETECTOR, DETECTORS, OWN_DETECTOR, read_novelty_capabilities
from fednet.methods.novelty.services import status
from fednet.metrics.novelty import threshold

CHUNK = 32
"""Pictures that a site scores in one question."""
ALL_SITES = "together"
"""The row of all sites in a table."""


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
    """

    image: Tensor
    classes: tuple[str, ...]
    predictions: Mapping[str, ClassPrediction]
    together: ClassPrediction
    verdicts: Mapping[str, Mapping[str, NoveltyDecision]]
    lowest: Mapping[str, float]
    reconstructions: Mapping[str, Mapping[str, Reconstructions]]
    missing: Mapping[str, str] = field(default_factory=dict)

    def verdict(self, detector: str) -> NoveltyDecision:
        """The decision of all sites with one of the detectors: that of the site with the smallest ratio."""
        return min(self.verdicts[detector].values(), key=lambda verdict: verdict.ratio)

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


@dataclass(frozen=True)
class NoveltyScores:
    """The scores of several pictures by one detector.

    Attributes:
        by_site: (n,) each, by site.
        thresholds: by site; a site that is not calibrated has none.
    """

    by_site: Mapping[str, Tensor]
    thresholds: Mapping[str, float]

    def lowest(self) -> Tensor:
        """The smallest score of each picture (n,)."""
        return lowest_scores(self.by_site)

    def ratio(self) -> Tensor:
        """The smallest score in thresholds of each picture (n,); above 1 it is novel.

        Raises:
            MethodError: no site is calibrated.
        """
        calibrated = {name: self.by_site[name] / max(limit, 1e-12) for name, limit in self.thresholds.items()}
        if not calibrated:
            raise MethodError("no detector is calibrated: set thresholds first")
        return lowest_scores(calibrated)


def joint_threshold(belonging: NoveltyScores, false_alarms: float) -> float:
    """The threshold of the smallest ratio of all sites at which a share `false_alarms` of what belongs is called novel.

    The conformal quantile (`fednet.metrics.novelty.threshold`) of the smallest ratios of pictures that belong. It holds
    for pictures like these and for these sites: with another set of sites it is another one.

    Args:
        belonging: scores of pictures that belong and that no site has trained or calibrated on.
        false_alarms: in (0, 1).

    Raises:
        MethodError: no site is calibrated.
        MeasureError: too few pictures for the rate.
    """
    return threshold(belonging.ratio(), false_alarms)


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
    for name, sites in _calibrated(network).items():
        question = Question("score", {"images": images}, {"model": name, "keep": keep}, sites)
        replies = network.ask(question)
        verdicts[name] = {
            site: NoveltyDecision(float(_checked_scores(reply, site, 1)), float(reply["threshold"]))
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
    )


def scores_by_site(network: Network, images: Tensor, progress: Progress) -> NoveltyScores:
    """The scores of pictures (n, c, h, w) by every site's own detector.

    Raises:
        MethodError: no site has one.
        Stopped: `progress` asks for the end.
    """
    rows: list[Mapping[str, Tensor]] = []
    thresholds: dict[str, float] = {}
    sites = _calibrated(network).get(OWN_DETECTOR)
    if sites is None:
        raise MethodError("no site has a calibrated detector of its own: train and calibrate them first")
    for done, chunk in enumerate(torch.split(images, CHUNK)):
        progress.report("scoring, each alone", done * CHUNK, len(images))
        replies = network.ask(Question("score", {"images": chunk}, {"model": OWN_DETECTOR}, sites))
        rows.append({site: _checked_scores(reply, site, len(chunk)) for site, reply in replies.by_node.items()})
        thresholds |= {site: float(reply["threshold"]) for site, reply in replies.by_node.items()}
    everywhere = sorted(set.intersection(*(set(row) for row in rows)))
    return NoveltyScores(
        {site: torch.cat([row[site] for row in rows]) for site in everywhere},
        {site: thresholds[site] for site in everywhere},
    )


def shared_scores(network: Network, images: Tensor, progress: Progress) -> NoveltyScores:
    """The scores of pictures (n, c, h, w) by the detector that all sites share; the sites divide the pictures.

    Raises:
        MethodError: the sites' detectors differ, are not calibrated, or no site is left to score.
        Stopped: `progress` asks for the end.
    """
    sites = list(_calibrated(network).get(DETECTOR, ()))
    if not sites:
        raise MethodError("no site has a calibrated shared detector: hold rounds and calibrate it first")
    scores, limit = torch.full((len(images),), torch.nan), 0.0
    while bool(scores.isnan().any()):
        progress.report("scoring together", int((~scores.isnan()).sum()), len(images))
        open_ = scores.isnan().nonzero().flatten()[: CHUNK * len(sites)]
        parts = {site: part for site, part in zip(sites, open_.tensor_split(len(sites)), strict=True) if len(part)}
        inputs = {f"images.{site}": images[part] for site, part in parts.items()}
        replies = network.ask(Question("score", inputs, {"model": DETECTOR}, tuple(parts)))
        for site, reply in replies.by_node.items():
            scores[parts[site]] = _checked_scores(reply, site, len(parts[site]))
            limit = float(reply["threshold"])
        sites = [site for site in sites if site not in replies.lost]
    return NoveltyScores({ALL_SITES: scores}, {ALL_SITES: limit})


def _checked_scores(reply: Mapping[str, Tensor], site: str, count: int) -> Tensor:
    """The scores (count,) in a site's reply.

    Raises:
        MethodError: they are missing, not as many, or not finite.
    """
    scores = reply.get("scores")
    if scores is None or scores.shape != (count,) or not bool(torch.isfinite(scores).all()):
        raise MethodError(f"{site} sent scores {described(scores)}, expected {count} finite numbers")
    return scores


def _calibrated(network: Network) -> dict[str, tuple[str, ...]]:
    """The sites whose detectors have thresholds, by detector; a shared detector must be the same everywhere."""
    models_of = status(network).by_node
    calibrated = {}
    for name in DETECTORS:
        sites = tuple(sorted(site for site, models in models_of.items() if models[name]["threshold"] is not None))
        if name == DETECTOR and len({models_of[site][name]["digest"] for site in sites}) > 1:
            raise MethodError("the sites' shared detectors differ: hold a round, or set a model, and calibrate")
        if sites:
            calibrated[name] = sites
    return calibrated


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
