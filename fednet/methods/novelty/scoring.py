"""Scores of pictures by the sites' detectors, and the thresholds that make decisions of them.

Each site's detector has a threshold of its own, so each score is divided by it, and the smallest of these ratios
decides: a picture is novel where every site calls it so. With the shared detector all sites agree; with their own
detectors no weights are shared, and the smallest ratio is the federated score.

The smallest of K ratios exceeds 1 the more rarely, the more sites there are: where all know a picture equally well and
their scores err independently, a rate of false alarms alpha becomes alpha^K and a power beta becomes beta^K.
`calibrate_jointly` calibrates the smallest ratio itself, on pictures that belong and that the asker holds, since no
site may see another's. The sites keep this joint threshold; it counts where just the detectors that it is of have
answered, as they were then, and 1 counts where they have not.

Source: the minimum over sites, and its calibration, are fednet's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fednet.api import Network, Progress, Question
from fednet.errors import MethodError
from fednet.methods.common.inputs import described
from fednet.methods.novelty.detector import lowest_scores
from fednet.methods.novelty.messages import DETECTOR, DETECTORS, OWN_DETECTOR, SET_THRESHOLD
from fednet.methods.novelty.services import status
from fednet.metrics.novelty import threshold

CHUNK = 32
"""Pictures that a site scores in one question."""
ALL_SITES = "together"
"""The name of all sites together."""

Statuses = Mapping[str, Mapping[str, Any]]
"""What the sites say of their models, by name; see `services.status`."""


@dataclass(frozen=True)
class NoveltyScores:
    """The scores of several pictures by one detector.

    Attributes:
        by_site: (n,) each, by site.
        thresholds: by site; a site that is not calibrated has none.
        joint: the threshold of the smallest ratio of just these sites' own detectors; None where there is none.
    """

    by_site: Mapping[str, Tensor]
    thresholds: Mapping[str, float]
    joint: float | None = None

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


def calibrate_jointly(network: Network, belonging: Tensor, false_alarms: float, progress: Progress) -> float:
    """Sets the joint threshold of the sites' own detectors (`joint_threshold`) at all sites, and returns it.

    Args:
        network: reaches the sites.
        belonging: pictures (n, c, h, w) that belong, and that no site has trained or calibrated on.
        false_alarms: in (0, 1).
        progress: told of every step; may ask for the end.

    Raises:
        MethodError: no site has a calibrated detector of its own.
        MeasureError: too few pictures for the rate.
        Stopped: `progress` asks for the end.
    """
    scores = scores_by_site(network, belonging, progress)
    limit, sites = joint_threshold(scores, false_alarms), tuple(scores.by_site)
    detectors = _detectors_digest(status(network).by_node, sites)
    network.ask(Question(SET_THRESHOLD, {}, {"model": OWN_DETECTOR, "joint": limit, "detectors": detectors}, sites))
    return limit


def scores_by_site(network: Network, images: Tensor, progress: Progress) -> NoveltyScores:
    """The scores of pictures (n, c, h, w) by every site's own detector.

    Raises:
        MethodError: no site has one.
        Stopped: `progress` asks for the end.
    """
    rows: list[Mapping[str, Tensor]] = []
    thresholds: dict[str, float] = {}
    models_of = status(network).by_node
    sites = calibrated_sites(models_of).get(OWN_DETECTOR)
    if sites is None:
        raise MethodError("no site has a calibrated detector of its own: train and calibrate them first")
    for done, chunk in enumerate(torch.split(images, CHUNK)):
        progress.report("scoring, each alone", done * CHUNK, len(images))
        replies = network.ask(Question("score", {"images": chunk}, {"model": OWN_DETECTOR}, sites))
        rows.append({site: checked_scores(reply, site, len(chunk)) for site, reply in replies.by_node.items()})
        thresholds |= {site: float(reply["threshold"]) for site, reply in replies.by_node.items()}
    everywhere = sorted(set.intersection(*(set(row) for row in rows)))
    return NoveltyScores(
        {site: torch.cat([row[site] for row in rows]) for site in everywhere},
        {site: thresholds[site] for site in everywhere},
        known_joint_threshold(models_of, everywhere),
    )


def shared_scores(network: Network, images: Tensor, progress: Progress) -> NoveltyScores:
    """The scores of pictures (n, c, h, w) by the detector that all sites share; the sites divide the pictures.

    Raises:
        MethodError: the sites' detectors differ, are not calibrated, or no site is left to score.
        Stopped: `progress` asks for the end.
    """
    sites = list(calibrated_sites(status(network).by_node).get(DETECTOR, ()))
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
            scores[parts[site]] = checked_scores(reply, site, len(parts[site]))
            limit = float(reply["threshold"])
        sites = [site for site in sites if site not in replies.lost]
    return NoveltyScores({ALL_SITES: scores}, {ALL_SITES: limit})


def checked_scores(reply: Mapping[str, Tensor], site: str, count: int) -> Tensor:
    """The scores (count,) in a site's reply.

    Raises:
        MethodError: they are missing, not as many, or not finite.
    """
    scores = reply.get("scores")
    if scores is None or scores.shape != (count,) or not bool(torch.isfinite(scores).all()):
        raise MethodError(f"{site} sent scores {described(scores)}, expected {count} finite numbers")
    return scores


def calibrated_sites(models_of: Statuses) -> dict[str, tuple[str, ...]]:
    """The sites whose detectors have thresholds, by detector; a shared detector must be the same everywhere."""
    calibrated = {}
    for name in DETECTORS:
        sites = tuple(sorted(site for site, models in models_of.items() if models[name]["threshold"] is not None))
        if name == DETECTOR and len({models_of[site][name]["digest"] for site in sites}) > 1:
            raise MethodError("the sites' shared detectors differ: hold a round, or set a model, and calibrate")
        if sites:
            calibrated[name] = sites
    return calibrated


def known_joint_threshold(models_of: Statuses, sites: Sequence[str]) -> float | None:
    """The joint threshold of just these sites' own detectors as they are; None unless all of the sites say the same."""
    known = [models_of[site][OWN_DETECTOR].get("joint") for site in sites]
    match known[:1]:
        case [[float(limit), str(detectors)]] if detectors == _detectors_digest(models_of, sites):
            return limit if all(one == known[0] for one in known) else None
    return None


def _detectors_digest(models_of: Statuses, sites: Sequence[str]) -> str:
    """SHA-256 of which sites' own detectors there are, and with which thresholds, as hexadecimal digits."""
    own = {site: models_of[site][OWN_DETECTOR] for site in sites}
    listed = [[site, own[site]["digest"], own[site]["threshold"]] for site in sorted(own)]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
