"""The Inception Score of class probabilities.

Salimans et al. 2016 (arXiv 1606.03498), section 4: exp(E_x KL(p(y|x) || p(y))). The paper averages over ten parts
of 50,000 samples; here the samples are few, so they are one part. The name stays although the classifier is
whatever the caller took: numbers compare only within one classifier. Knows no pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fednet.errors import MeasureError

TOLERANCE = 1e-4
"""How far from 1 the float32 probabilities of one sample may add up."""


def inception_score(probabilities: Tensor) -> float:
    """The Inception Score of class probabilities.

    Args:
        probabilities: floating (n, k), n >= k, each row at least 0 and adding up to 1.

    Returns:
        Between 1 (all the same, or nothing certain) and k (all certain, all classes equally often).

    Raises:
        MeasureError: fewer samples than classes, values that are no probabilities (logits, for example), or
            non-finite ones.
    """
    _check(probabilities)
    rows = probabilities.detach().to("cpu", torch.float64)
    rows = rows / rows.sum(1, keepdim=True)
    divergence = torch.special.xlogy(rows, rows).sum(1) - torch.special.xlogy(rows, rows.mean(0)).sum(1)
    return float(divergence.mean().exp())


def _check(probabilities: Tensor) -> None:
    if probabilities.ndim != 2 or not probabilities.is_floating_point():
        raise MeasureError(
            f"probabilities must be floating (n, k); got {probabilities.dtype} {tuple(probabilities.shape)}"
        )
    count, classes = probabilities.shape
    if classes < 2 or count < classes:
        raise MeasureError(
            f"an Inception Score over {classes} classes needs at least 2 classes and as many samples as classes; "
            f"got {count} samples: draw more"
        )
    if not probabilities.isfinite().all():
        raise MeasureError("probabilities hold NaN or infinity")
    off = float((probabilities.sum(1) - 1).abs().max())
    if off > TOLERANCE or float(probabilities.min()) < 0:
        raise MeasureError(
            f"probabilities must be at least 0 and add up to 1 per sample; the least is "
            f"{float(probabilities.min()):.4g} and a sum is off by {off:.4g}: pass softmax(logits), not logits"
        )
