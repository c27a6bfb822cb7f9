"""Evaluation at a site: judges arrive as sent, generated pictures are measured, attacks find copies only."""

from __future__ import annotations

import pytest
import torch

from fednet.data.datasets import ImageSet
from fednet.errors import MeasureError, ModelError
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.evaluation import (
    evaluate_generated,
    judge_from_inputs,
    judge_to_inputs,
    measure_leakage,
    pool_leakage,
)
from fednet.metrics.judge import Judge
from fednet.models.classifier import Classifier

CLASSES = ("a", "b")


@pytest.fixture
def judge() -> Judge:
    network = Classifier(1, 8, 2).eval().requires_grad_(requires_grad=False)
    return Judge(network, (1, 8, 8), CLASSES, "cpu")


def pictures(count: int, seed: int) -> torch.Tensor:
    return 2 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) - 1


def test_a_judge_arrives_as_it_was_sent(judge: Judge) -> None:
    arrived = judge_from_inputs({**judge_to_inputs(judge), "images": torch.zeros(1)}, judge.shape, CLASSES, "cpu")
    assert torch.equal(arrived.probabilities(pictures(4, 0)), judge.probabilities(pictures(4, 0)))


def test_another_judge_is_refused(judge: Judge) -> None:
    with pytest.raises(ModelError, match="the judge"):
        judge_from_inputs(judge_to_inputs(judge), (1, 8, 8), ("a", "b", "c"), "cpu")
    broken = {
        name: part * torch.nan if part.is_floating_point() else part for name, part in judge_to_inputs(judge).items()
    }
    with pytest.raises(ModelError, match="the judge"):
        judge_from_inputs(broken, judge.shape, CLASSES, "cpu")


def test_real_pictures_are_near_the_floor(judge: Judge) -> None:
    real = ImageSet(pictures(200, 1), torch.arange(200) % 2, CLASSES)
    found = evaluate_generated(judge, pictures(200, 2), torch.arange(200) % 2, real)
    assert found["count"] == 200
    assert sorted(found["by_class"]) == ["a", "b"]
    assert 0 <= found["frechet"] <= 2 * found["floor"] + 1e-6


def test_too_few_have_no_distance(judge: Judge) -> None:
    real = ImageSet(pictures(20, 1), torch.arange(20) % 2, CLASSES)
    assert evaluate_generated(judge, pictures(10, 2), torch.arange(10) % 2, real)["frechet"] is None
    assert evaluate_generated(judge, pictures(1, 2)[:0], torch.arange(0), real)["accuracy"] is None


def test_copies_are_found(backend: CmtiiBackend) -> None:
    members, strangers = pictures(12, 3), pictures(12, 4)
    word = torch.zeros(1, 16)
    found = measure_leakage(backend.image_generator, 0, (word, word), (members, strangers), members, views=2, seed=0)
    assert found.nearest == 1.0
    assert max(found.generated) == 0.0
    assert min(found.strangers) > 0.0
    assert found.calibrated == 0.5
    assert found.count == 12


def test_words_of_a_site_are_pooled(backend: CmtiiBackend) -> None:
    word = torch.zeros(1, 16)
    several = [
        measure_leakage(
            backend.image_generator, k, (word, word), (pictures(n, k), pictures(n, 9)), pictures(3, 8), views=1, seed=0
        )
        for k, n in enumerate((4, 12))
    ]
    found = pool_leakage(several)
    assert found["count"] == 16
    assert found["nearest"] == pytest.approx((4 * several[0].nearest + 12 * several[1].nearest) / 16)
    with pytest.raises(MeasureError, match="no word"):
        pool_leakage([])
