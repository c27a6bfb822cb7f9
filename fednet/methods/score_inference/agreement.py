"""How far the sites' scores agree, by t: every site's score at the same noisy real pictures.

Where the scores point the same way their mean is as good as any of them; where they part, the rule matters. The
source system draws the same two curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.api import Ask, Progress
from fednet.data.datasets import ImageSet
from fednet.methods.score_inference.federated_score import FederatedScore
from fednet.methods.score_inference.messages import ScoreCapabilities
from fednet.methods.score_inference.sampling import label_counts_of
from fednet.metrics.agreement import ScoreAgreement, agreement
from fednet.reporting.summary import ParticipationAccount
from fednet.seeds import generator

MAX_IMAGES = 64
"""How many real pictures the scores are compared at."""


@dataclass(frozen=True)
class AgreementPoint:
    """The sites at one time: agreement with the mean score, and size of the score times std(t), by name."""

    t: float
    sites: Mapping[str, ScoreAgreement]


def measure_agreement(
    ask: Ask,
    capabilities: Mapping[str, ScoreCapabilities],
    real: ImageSet,
    times: int,
    *,
    seed: int,
    progress: Progress,
) -> tuple[AgreementPoint, ...]:
    """Asks every site at `times` times from eps to 1, evenly spaced; nothing for fewer than two sites."""
    if len(capabilities) < 2 or not times:
        return ()
    first, names = next(iter(capabilities.values())), tuple(sorted(capabilities))
    images, labels = _known(real, len(first.classes)) if first.conditional else (real.images[:MAX_IMAGES], None)
    account = ParticipationAccount.of("query", names)
    counts = label_counts_of(capabilities, labels)
    score = FederatedScore(ask, counts, {"guidance": 1.0}, account, progress, "comparing scores", first.sde)
    noise = torch.randn(images.shape, generator=generator(seed, "survey"))
    points = []
    for t in torch.linspace(1.0, first.sde.eps, times).tolist():
        at = torch.tensor(t)
        answers = score(first.sde.noised(images, at, noise), t)
        std = first.sde.marginal(at)[1]
        present = zip(names, answers.present.tolist(), strict=True)
        scores = {name: answers.scores[k] * std for k, (name, there) in enumerate(present) if there}
        points.append(AgreementPoint(t, agreement(scores)))
    return tuple(points)


def _known(real: ImageSet, classes: int) -> tuple[Tensor, Tensor]:
    """The first pictures of the sites' classes, which come first among those of the measuring pictures."""
    chosen = ((real.labels >= 0) & (real.labels < classes)).nonzero().flatten()[:MAX_IMAGES]
    return real.images[chosen], real.labels[chosen]
