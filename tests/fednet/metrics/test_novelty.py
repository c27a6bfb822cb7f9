"""AUROC, thresholds and the two baselines."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fednet.errors import MeasureError
from fednet.metrics.novelty import alarm_rate, auroc, nearest_distance, softmax_doubt, threshold
from fednet.seeds import generator

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


@given(scores, scores)
def test_auroc_is_that_of_scikit_learn_ties_included(inside: Tensor, outside: Tensor) -> None:
    truth = roc_auc_score([0] * len(inside) + [1] * len(outside), torch.cat([inside, outside]).numpy())
    assert auroc(inside, outside) == pytest.approx(truth, abs=1e-12)


@given(scores, scores)
def test_auroc_turns_around_with_its_arguments_and_keeps_under_rising_functions(
    inside: Tensor, outside: Tensor
) -> None:
    assert auroc(inside, outside) + auroc(outside, inside) == pytest.approx(1.0)
    assert auroc(inside.exp(), outside.exp()) == auroc(inside, outside)
    assert auroc(inside, inside) == pytest.approx(0.5)


def test_auroc_of_parted_scores_is_one() -> None:
    assert auroc(torch.tensor([1.0, 2.0]), torch.tensor([3.0])) == 1.0
    assert auroc(torch.tensor([3.0]), torch.tensor([1.0, 2.0])) == 0.0


@given(st.integers(19, 400), st.sampled_from([0.05, 0.1, 0.5]))
def test_the_threshold_is_the_smallest_that_keeps_the_promise(count: int, rate: float) -> None:
    held_out = torch.randperm(count, generator=generator(count, "order")).double()
    bound = threshold(held_out, rate)
    allowed = rate * (count + 1)
    assert bound in held_out.tolist()
    above = int((held_out > bound).sum())
    assert above + 1 <= allowed + 1e-6  # the further picture is one of count + 1 that are alike
    assert above + 2 > allowed - 1e-6


def test_false_alarms_on_further_pictures_are_as_rare_as_promised() -> None:
    chance = generator(0, "scores")
    rates = []
    for _ in range(400):
        bound = threshold(torch.randn(99, generator=chance), 0.1)
        rates.append(alarm_rate(torch.randn(500, generator=chance), bound))
    assert sum(rates) / len(rates) == pytest.approx(0.1, abs=0.006)


def test_too_few_pictures_cannot_promise_a_rate() -> None:
    assert threshold(torch.arange(19.0), 0.05) == 18.0
    with pytest.raises(MeasureError, match="at least 19"):
        threshold(torch.arange(18.0), 0.05)
    for rate in (0.0, 1.0, -0.1):
        with pytest.raises(MeasureError, match="between 0 and 1"):
            threshold(torch.arange(100.0), rate)


def test_an_alarm_is_strictly_above_the_threshold() -> None:
    assert alarm_rate(torch.tensor([1.0, 2.0, 3.0, 4.0]), 2.0) == 0.5


@pytest.mark.parametrize("bad", [torch.zeros(0), torch.zeros(2, 2), torch.tensor([1.0, math.nan])])
def test_what_are_no_scores_is_refused(bad: Tensor) -> None:
    good = torch.arange(30.0)
    for call in (
        lambda: auroc(bad, good),
        lambda: auroc(good, bad),
        lambda: threshold(bad),
        lambda: alarm_rate(bad, 0),
    ):
        with pytest.raises(MeasureError):
            call()


def test_the_nearest_neighbour_is_found_among_all() -> None:
    reference = torch.randn(300, 1, 4, 4, generator=generator(0, "reference"))
    images = torch.randn(270, 1, 4, 4, generator=generator(0, "images"))
    found = nearest_distance(images, reference)
    for index in (0, 100, 269):
        truth = (images[index] - reference).square().flatten(1).sum(1).sqrt().min()
        assert float(found[index]) == pytest.approx(float(truth), rel=1e-5)
    torch.testing.assert_close(nearest_distance(reference, reference), torch.zeros(300), atol=1e-5, rtol=0)


def test_a_nearest_neighbour_needs_a_reference_of_the_same_shape() -> None:
    for reference in (torch.zeros(0, 1, 4, 4), torch.zeros(3, 1, 4, 5)):
        with pytest.raises(MeasureError, match="reference"):
            nearest_distance(torch.zeros(2, 1, 4, 4), reference)


def test_doubt_is_one_less_the_largest_probability() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(3.0), 0.0, -200.0, -200.0]])
    torch.testing.assert_close(softmax_doubt(logits), torch.tensor([0.75, 0.25], dtype=torch.float64))
    with pytest.raises(MeasureError, match="logits"):
        softmax_doubt(torch.zeros(3))
