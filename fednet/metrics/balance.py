"""Sample quality by class, for rare classes beside common ones.

Distances are measured at fixed counts, since a Frechet distance is biased by the number of samples: the same number of
samples and of real images per class. Unconditional samples count for the class that the judge predicts; there must be
more of them than are measured, and a class that is never predicted has no distance.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.data.datasets import ImageSet
from fednet.errors import MeasureError
from fednet.metrics.frechet import frechet_distance
from fednet.metrics.judge import Judge, fraction_right
from fednet.seeds import generator


@dataclass(frozen=True)
class Balance:
    """Measurements of a set of samples, in the judge's features and against one reference.

    Attributes:
        count: how many samples the overall distance is of.
        frechet: Frechet distance of all samples to the whole reference.
        rare: Frechet distance of those of the rare classes to the reference's; None where too few were drawn.
        by_class: by class name; None where too few were drawn.
        accuracy: the fraction judged to be of the label that was asked for, in [0, 1]; None without labels.
        rare_accuracy: the same of the rare labels alone; None without labels, or without rare classes.
        share: the fraction judged to be of a rare class, in [0, 1].
    """

    count: int
    frechet: float
    rare: float | None
    by_class: dict[str, float | None]
    accuracy: float | None
    rare_accuracy: float | None
    share: float


def balance(
    images: Tensor,
    labels: Tensor | None,
    *,
    judge: Judge,
    reference: ImageSet,
    rare: Collection[int],
    per_class: int,
) -> Balance:
    """Measures samples.

    Args:
        images: floating (n, c, h, w) in [-1, 1].
        labels: int64 (n,), what was asked for, `per_class` of each class; None where nothing was asked for.
        judge: what looks at them.
        reference: real pictures that neither the samplers nor the judge were trained on.
        rare: the rare classes' labels; may be empty.
        per_class: samples of a class in every distance; must exceed the width of the judge's features.

    Raises:
        MeasureError: fewer samples than classes * per_class, or pictures that cannot be judged.
    """
    classes, probabilities = len(judge.classes), judge.probabilities(images)
    whole = classes * per_class
    if len(images) < whole:
        raise MeasureError(f"{per_class} samples of each of {classes} classes are {whole}; there are {len(images)}")
    features, real = judge.features(images), judge.features(reference.images)
    of = probabilities.argmax(1) if labels is None else labels.cpu()

    def distance(chosen: Collection[int]) -> float | None:
        wanted = per_class * len(chosen)
        where = _among(of, chosen)[:wanted]
        there = _among(reference.labels, chosen)
        enough = len(where) == wanted > 0 and len(there) > real.shape[1]
        return frechet_distance(features[where], real[there]) if enough else None

    rows = _among(of, rare)
    return Balance(
        count=whole,
        frechet=frechet_distance(features[:whole], real),
        rare=distance(rare),
        by_class={name: distance((label,)) for label, name in enumerate(judge.classes)},
        accuracy=None if labels is None else fraction_right(probabilities, labels),
        rare_accuracy=None if labels is None or not len(rows) else fraction_right(probabilities[rows], labels[rows]),
        share=float(torch.isin(probabilities[:whole].argmax(1), _tensor(rare)).double().mean()),
    )


def real_balance(
    real: ImageSet, *, judge: Judge, reference: ImageSet, rare: Collection[int], per_class: int, seed: int
) -> Balance:
    """The same for real pictures, `per_class` of each class: the floor of the measurements.

    Raises:
        MeasureError: there are fewer real pictures of a class.
    """
    order = torch.randperm(len(real), generator=generator(seed, "balance", "floor"))
    parts = [order[real.labels[order] == label][:per_class] for label in range(len(real.classes))]
    if short := [real.classes[label] for label, part in enumerate(parts) if len(part) < per_class]:
        raise MeasureError(
            f"the floor of {per_class} samples a class needs as many real pictures of '{short[0]}': measure fewer"
        )
    drawn = real.subset(torch.cat(parts))
    return balance(drawn.images, drawn.labels, judge=judge, reference=reference, rare=rare, per_class=per_class)


def _among(labels: Tensor, chosen: Collection[int]) -> Tensor:
    return torch.isin(labels, _tensor(chosen)).nonzero().flatten()


def _tensor(chosen: Collection[int]) -> Tensor:
    return torch.tensor(sorted(chosen), dtype=torch.int64)
