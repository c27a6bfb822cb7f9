"""How far the agents agree, by t: every agent's score at the same noisy real pictures.

Where the agents' scores point the same way their mean is as good as any of them; where they part, the rule matters.
The source system draws the same two curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fednet.api import Ask, Progress
from fednet.data.datasets import ImageSet
from fednet.methods.score_inference.arm_sampling import label_counts_of
from fednet.methods.score_inference.federated_score import FederatedScore
from fednet.methods.score_inference.site import ScoreCapabilities
from fednet.metrics.agreement import ScoreAgreement, agreement
from fednet.reporting.summary import ParticipationAccount
from fednet.seeds import generator

MAX_IMAGES = 64
"""How many real pictures are looked at."""


@dataclass(frozen=True)
class AgreementPoint:
    """The agents at one time: agreement with the mean score, and size of the score times std(t), by name."""

    t: float
    agents: Mapping[str, ScoreAgreement]


def measure_agreement(
    ask: Ask,
    capabilities: Mapping[str, ScoreCapabilities],
    real: ImageSet,
    times: int,
    *,
    seed: int,
    progress: Progress,
) -> tuple[AgreementPoint, ...]:
    """Asks every agent at `times` times from eps to 1, evenly spaced; nothing for fewer than two agents."""
    if len(capabilities) < 2 or not times:
        return ()
    card = next(iter(capabilities.values()))
    images, labels = real.images[:MAX_IMAGES], real.labels[:MAX_IMAGES] if card.conditional else None
    names = tuple(sorted(capabilities))
    query = FederatedScore(
        ask,
        label_counts_of(capabilities, labels),
        {"guidance": 1.0},
        ParticipationAccount.of("query", names),
        progress,
        "comparing scores",
    )
    noise = torch.randn(images.shape, generator=generator(seed, "survey"))
    points = []
    for t in torch.linspace(1.0, card.sde.eps, times).tolist():
        at = torch.tensor(t)
        answers = query(card.sde.noised(images, at, noise), t)
        std = card.sde.marginal(at)[1]
        present = zip(names, answers.present.tolist(), strict=True)
        scores = {name: answers.scores[k] * std for k, (name, there) in enumerate(present) if there}
        points.append(AgreementPoint(t, agreement(scores)))
    return tuple(points)
