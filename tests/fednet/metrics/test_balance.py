"""Measures class by class: real pictures are near real ones, counts are fixed, and rare classes are seen."""

from __future__ import annotations

import pytest
import torch

from fednet.data.config import DataConfig
from fednet.data.datasets import ImageSet, Splits, load
from fednet.errors import MeasureError
from fednet.metrics.balance import balance, real_balance
from fednet.metrics.judge import Judge, train_judge

PER_CLASS = 40
RARE = (5, 6, 7, 8, 9)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load(DataConfig())


@pytest.fixture(scope="module")
def judge(splits: Splits) -> Judge:
    return train_judge(splits.judge, seed=0, steps=60)


def of_each(split: ImageSet, count: int) -> ImageSet:
    return split.subset(torch.cat([(split.labels == label).nonzero().flatten()[:count] for label in range(10)]))


def test_real_pictures_are_nearer_than_ones_with_their_labels_turned(splits: Splits, judge: Judge) -> None:
    real = of_each(splits.train, PER_CLASS)
    settings = {"judge": judge, "reference": splits.test, "rare": RARE, "per_class": PER_CLASS}
    right = balance(real.images, real.labels, **settings)  # type: ignore[arg-type]
    turned = balance(real.images, (real.labels + 5) % 10, **settings)  # type: ignore[arg-type]
    assert right.count == 400
    assert right.frechet == turned.frechet  # all pictures together know no labels
    assert right.rare is not None
    assert turned.rare is not None
    assert right.rare < turned.rare
    assert all(right.by_class[name] < turned.by_class[name] for name in right.by_class)  # type: ignore[operator]
    assert right.accuracy is not None
    assert right.accuracy > 0.5
    assert turned.accuracy is not None
    assert turned.accuracy < 0.2
    assert right.share == pytest.approx(0.5, abs=0.1)


def test_without_labels_pictures_count_for_what_the_judge_sees(splits: Splits, judge: Judge) -> None:
    common = splits.train.subset((splits.train.labels < 5).nonzero().flatten())
    found = balance(common.images, None, judge=judge, reference=splits.test, rare=RARE, per_class=PER_CLASS)
    assert found.accuracy is None
    assert found.rare_accuracy is None
    assert found.rare is None  # too few look like one
    assert found.share < 0.1
    assert found.by_class["0"] is not None
    assert found.by_class["6"] is None


def test_the_floor_is_what_real_pictures_reach(splits: Splits, judge: Judge) -> None:
    floor = real_balance(splits.train, judge=judge, reference=splits.test, rare=(), per_class=PER_CLASS, seed=0)
    noise = torch.rand(400, 1, 8, 8) * 2 - 1
    of_noise = balance(noise, None, judge=judge, reference=splits.test, rare=(), per_class=PER_CLASS)
    assert floor.frechet < of_noise.frechet / 5
    assert floor.rare is None
    assert floor.share == 0


def test_too_few_are_refused(splits: Splits, judge: Judge) -> None:
    few = of_each(splits.train, 30)
    with pytest.raises(MeasureError, match="40 samples of each of 10 classes are 400; there are 300"):
        balance(few.images, few.labels, judge=judge, reference=splits.test, rare=(), per_class=PER_CLASS)
    with pytest.raises(MeasureError, match="needs as many real pictures of '0'"):
        real_balance(few, judge=judge, reference=splits.test, rare=(), per_class=PER_CLASS, seed=0)
