"""Evaluation of novelty scores: AUROC, calibrated thresholds, and two baseline scores.

A score is larger where a picture looks more novel. A threshold comes from held-out pictures that belong: under
exchangeability no more than the chosen share of further ones exceeds it, on average. The source compares with the
score of one picture instead, which is a false-alarm rate of one half.

Source: Vovk et al. 2005 and Bates et al. 2023 (arXiv 2104.08279) for the threshold; Hendrycks and Gimpel 2017
(arXiv 1610.02136) for the largest softmax and for AUROC as the measure.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fednet.errors import MeasureError

CHUNK = 256
"""Pictures whose distances to the reference are computed at once."""


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The area under the ROC curve: how often a picture from outside scores higher than one from inside.

    Args:
        inside: scores (n,) of pictures that belong, n > 0.
        outside: scores (m,) of pictures that do not, m > 0.

    Returns:
        In [0, 1]; .5 is chance, and a tie counts one half (Mann-Whitney).

    Raises:
        MeasureError: no scores, another shape, or NaN.
    """
    low, high = _checked(inside, "inside"), _checked(outside, "outside")
    ordered = low.sort().values
    below = torch.searchsorted(ordered, high, right=False)
    up_to = torch.searchsorted(ordered, high, right=True)
    return float((below + up_to).double().mean()) / (2 * len(low))


def alarm_rate(scores: Tensor, threshold: float) -> float:
    """The share of scores (n,) above a threshold: the FPR on pictures that belong, the TPR on those that do not.

    Raises:
        MeasureError: no scores, another shape, or NaN.
    """
    return float((_checked(scores, "tested") > threshold).double().mean())


def threshold(scores: Tensor, false_alarms: float = 0.05) -> float:
    """The threshold that pictures like the held-out ones exceed with probability `false_alarms` at most.

    It is the k-th smallest of n scores, k = ceil((n + 1)(1 - false_alarms)): a further picture exceeds it with
    probability at most 1 - k / (n + 1).

    Args:
        scores: (n,) of held-out pictures that belong, seen neither by the model's training nor by the test.
        false_alarms: in (0, 1).

    Raises:
        MeasureError: too few scores for the rate asked for, another shape, or NaN.
    """
    if not 0.0 < false_alarms < 1.0:
        raise MeasureError(f"a false-alarm rate lies between 0 and 1, not at {false_alarms}")
    ordered = _checked(scores, "calibration").sort().values
    rank = math.ceil((len(ordered) + 1) * (1 - false_alarms) - 1e-9)
    if rank > len(ordered):
        need = math.ceil(1 / false_alarms - 1 - 1e-9)
        raise MeasureError(
            f"a false-alarm rate of {false_alarms:g} needs at least {need} calibration pictures; got {len(ordered)}: "
            "give more, or allow more false alarms"
        )
    return float(ordered[rank - 1])


def nearest_distance(images: Tensor, reference: Tensor) -> Tensor:
    """A baseline: the Euclidean distance of each picture to its nearest neighbour among the reference.

    Args:
        images: (n, ...), any shape of picture.
        reference: (m, ...) training pictures of the same shape, m > 0.

    Returns:
        Float (n,) on the CPU.

    Raises:
        MeasureError: there is no reference, or the shapes differ.
    """
    if not len(reference) or images.shape[1:] != reference.shape[1:]:
        raise MeasureError(
            f"a nearest neighbour of pictures {tuple(images.shape[1:])} needs reference pictures of that shape; got "
            f"{len(reference)} of {tuple(reference.shape[1:])}"
        )
    there = reference.detach().cpu().flatten(1).double()
    rows = [
        torch.cdist(part.flatten(1), there).min(1).values for part in torch.split(images.detach().cpu().double(), CHUNK)
    ]
    return torch.cat(rows).float() if rows else torch.zeros(0)


def softmax_doubt(logits: Tensor) -> Tensor:
    """A baseline: one minus the largest class probability, (n,) in [0, 1), of logits (n, classes).

    Raises:
        MeasureError: another shape.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise MeasureError(f"logits must be (n, classes) with at least 2 classes; got {tuple(logits.shape)}")
    return 1 - logits.detach().cpu().double().softmax(1).max(1).values


def _checked(scores: Tensor, which: str) -> Tensor:
    if scores.ndim != 1 or not len(scores):
        raise MeasureError(f"{which} scores must be (n,), n > 0; got {tuple(scores.shape)}")
    if bool(scores.isnan().any()):
        raise MeasureError(f"{int(scores.isnan().sum())} of {len(scores)} {which} scores are NaN")
    return scores.detach().to("cpu", torch.float64)
