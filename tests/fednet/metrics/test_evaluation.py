"""Real pictures pass for real, and what is worse measures worse."""

import pytest
import torch

from fednet.data.datasets import Splits
from fednet.errors import MeasureError
from fednet.metrics.evaluation import evaluate, measure_real, real_floor
from fednet.metrics.judge import Judge


def test_real_pictures_lie_at_the_floor(judge: Judge, splits: Splits) -> None:
    real = splits.train.subset(torch.randperm(1077, generator=torch.Generator().manual_seed(5))[:300])
    found = evaluate(real.images, real.labels, judge=judge, splits=splits, seed=0)
    assert found.count == 300
    assert found.accuracy is not None
    assert found.accuracy >= 0.95
    assert found.inception_score > 9
    assert 0.7 < found.frechet / found.floor < 1.4
    assert sum(found.histogram.values()) == 300
    assert list(found.histogram) == list("0123456789")


def test_missing_classes_measure_worse(judge: Judge, splits: Splits) -> None:
    half = splits.train.subset((splits.train.labels < 5).nonzero().flatten()[:300])
    found = evaluate(half.images, None, judge=judge, splits=splits, seed=0)
    assert found.accuracy is None
    assert found.frechet > 4 * found.floor
    assert found.inception_score < 5.5


def test_the_noisier_the_worse(judge: Judge, splits: Splits) -> None:
    real = splits.train.subset(torch.arange(300))
    noise = torch.randn(real.images.shape, generator=torch.Generator().manual_seed(0))
    found = [
        evaluate((real.images + level * noise).clamp(-1, 1), real.labels, judge=judge, splits=splits, seed=0)
        for level in (0.0, 0.4, 0.8)
    ]
    assert found[0].frechet < found[1].frechet < found[2].frechet
    assert found[2].frechet > 4 * found[2].floor
    assert (found[0].accuracy or 0) > (found[2].accuracy or 0)
    assert found[0].inception_score > found[2].inception_score


def test_the_floor_is_reproducible_and_falls_with_the_count(judge: Judge, splits: Splits) -> None:
    reference = judge.features(splits.test.images)
    floors = [real_floor(judge, splits.train, reference, count, 0) for count in (50, 200, 800, 800)]
    assert floors[0] > floors[1] > floors[2] == floors[3]


def test_the_floor_has_the_labels_that_were_asked_for(judge: Judge, splits: Splits) -> None:
    reference = judge.features(splits.test.images)
    even = real_floor(judge, splits.train, reference, torch.arange(10).repeat(30), 0)
    lopsided = real_floor(judge, splits.train, reference, torch.arange(3).repeat(100), 0)
    assert lopsided > 5 * even
    assert even < real_floor(judge, splits.train, reference, 300, 0)


def test_the_yardstick_is_the_test_split(judge: Judge, splits: Splits) -> None:
    found = measure_real(judge, splits.test)
    assert found.accuracy == judge.accuracy(splits.test.images, splits.test.labels)
    assert 9 < found.inception_score <= 10


def test_what_cannot_be_measured_is_refused(judge: Judge, splits: Splits) -> None:
    images = splits.train.images
    with pytest.raises(MeasureError, match="at least 33 samples"):
        evaluate(images[:32], None, judge=judge, splits=splits, seed=0)
    with pytest.raises(MeasureError, match=r"look like \[0, 1\]"):
        evaluate((images[:100] + 1) / 2, None, judge=judge, splits=splits, seed=0)
    with pytest.raises(MeasureError, match="there are 1077"):
        evaluate(images.repeat(2, 1, 1, 1), None, judge=judge, splits=splits, seed=0)
    with pytest.raises(MeasureError, match="of class '3'"):
        evaluate(images[:200], torch.full((200,), 3), judge=judge, splits=splits, seed=0)
