"""Sample quality, beside the same measures of real images.

A Frechet distance is biased by the number of samples, so every evaluation brings its floor: the distance of equally
many real training pictures, drawn several times and averaged. Where labels were asked for, the draws have the same
labels, since a fixed class balance alone halves the distance of 300 digits. The reference is the test split,
which neither the sites nor the judge were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.data.datasets import ImageSet, Splits
from fednet.errors import MeasureError
from fednet.metrics.frechet import frechet_distance
from fednet.metrics.inception import inception_score
from fednet.metrics.judge import Judge, fraction_right
from fednet.seeds import generator

DRAWS = 8
"""How many draws of real pictures the floor averages."""


@dataclass(frozen=True)
class Evaluation:
    """Measurements of a set of samples.

    Attributes:
        count: how many samples.
        accuracy: the fraction judged to be of the label that was asked for, in [0, 1]; None without labels.
        inception_score: in [1, classes].
        frechet: the Frechet distance of the samples to the test split, in the judge's features.
        floor: the same for equally many real training pictures, of the same labels where labels were asked for;
            mean of several draws.
        histogram: by class name, how many samples the judge takes for it.
    """

    count: int
    accuracy: float | None
    inception_score: float
    frechet: float
    floor: float
    histogram: dict[str, int]


@dataclass(frozen=True)
class RealReference:
    """The judge's measurements of the real test split: the best values that samples can reach.

    Attributes:
        accuracy: in [0, 1].
        inception_score: in [1, classes].
    """

    accuracy: float
    inception_score: float


def measure_real(judge: Judge, test: ImageSet) -> RealReference:
    """Measures the real test split.

    Raises:
        MeasureError: it cannot be judged.
    """
    probabilities = judge.probabilities(test.images)
    return RealReference(fraction_right(probabilities, test.labels), inception_score(probabilities))


def evaluate(images: Tensor, labels: Tensor | None, *, judge: Judge, splits: Splits, seed: int) -> Evaluation:
    """Measures samples.

    Args:
        images: floating (n, c, h, w) in [-1, 1]; n must exceed the judge's feature width.
        labels: int64 (n,), what was asked for; None where nothing was.
        judge: trained on `splits.judge`.
        splits: real pictures; `test` is the reference, `train` gives the floor.
        seed: the run's seed, for the floor's draws; the same floor for the same number of samples.

    Raises:
        MeasureError: wrong range or shape, too few samples, or non-finite values.
    """
    probabilities = judge.probabilities(images)
    reference = judge.features(splits.test.images)
    wanted = len(images) if labels is None else labels
    counts = torch.bincount(probabilities.argmax(1), minlength=len(judge.classes)).tolist()
    return Evaluation(
        count=len(images),
        accuracy=None if labels is None else fraction_right(probabilities, labels),
        inception_score=inception_score(probabilities),
        frechet=frechet_distance(judge.features(images), reference),
        floor=real_floor(judge, splits.train, reference, wanted, seed),
        histogram=dict(zip(judge.classes, counts, strict=True)),
    )


def real_floor(judge: Judge, real: ImageSet, reference: Tensor, wanted: int | Tensor, seed: int) -> float:
    """The mean Frechet distance of draws of real pictures to reference features (m, d).

    Args:
        judge: whose features.
        real: what to draw from, without replacement.
        reference: the judge's features of the reference.
        wanted: how many pictures, or labels int64 (n,): as many of each class as there.
        seed: the run's seed.

    Raises:
        MeasureError: there are fewer real pictures than wanted, of a class or at all.
    """
    distances = []
    for draw in range(DRAWS):
        chance = generator(seed, "floor", draw)
        chosen = _draw(real, wanted, chance)
        distances.append(frechet_distance(judge.features(real.images[chosen]), reference))
    return sum(distances) / len(distances)


def _draw(real: ImageSet, wanted: int | Tensor, chance: torch.Generator) -> Tensor:
    order = torch.randperm(len(real), generator=chance)
    if isinstance(wanted, int):
        return _first(order, wanted, "")
    shuffled = real.labels[order]
    counts = torch.bincount(wanted.cpu(), minlength=len(real.classes)).tolist()
    parts = [
        _first(order[shuffled == label], count, f" of class '{real.classes[label]}'")
        for label, count in enumerate(counts)
    ]
    return torch.cat(parts)


def _first(order: Tensor, count: int, which: str) -> Tensor:
    if count > len(order):
        raise MeasureError(
            f"the floor of {count} samples{which} needs as many real training pictures; there are {len(order)}: "
            "draw fewer samples or raise data.limit"
        )
    return order[:count]
