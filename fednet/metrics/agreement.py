"""Agreement of the agents' scores at one point of a trajectory: cosine with their mean, and magnitude.

The source of score inference plots both over t: where the cosines fall, the plain mean is close to no agent's score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.errors import MeasureError


@dataclass(frozen=True)
class ScoreAgreement:
    """Of one agent, averaged over the samples.

    Attributes:
        cosine: of its score with the mean score, in [-1, 1]; 0 where one of them is zero.
        magnitude: the Euclidean norm of its score, at least 0.
    """

    cosine: float
    magnitude: float


def agreement(scores: Mapping[str, Tensor]) -> dict[str, ScoreAgreement]:
    """Compares the agents' scores at the same (x, t, label) with their mean.

    Args:
        scores: by agent, each floating (n, ...) of one shape.

    Returns:
        One value per agent, in the order of the names.

    Raises:
        MeasureError: no scores, different shapes, or non-finite values.
    """
    names = sorted(scores)
    shapes = {name: tuple(scores[name].shape) for name in names}
    if not names or len(set(shapes.values())) != 1 or not shapes[names[0]] or scores[names[0]].numel() == 0:
        raise MeasureError(f"agreement needs non-empty scores (n, ...) of one shape; got {shapes}")
    stacked = torch.stack([scores[name].detach().to("cpu", torch.float64).flatten(1) for name in names])
    if not stacked.isfinite().all():
        bad = [name for name, values in zip(names, stacked, strict=True) if not values.isfinite().all()]
        raise MeasureError(f"the scores of {', '.join(bad)} hold NaN or infinity")
    cosines = torch.cosine_similarity(stacked, stacked.mean(0, keepdim=True), dim=2).mean(1)
    norms = stacked.norm(dim=2).mean(1)
    return {name: ScoreAgreement(float(cosines[k]), float(norms[k])) for k, name in enumerate(names)}
