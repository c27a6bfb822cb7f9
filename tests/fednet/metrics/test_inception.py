"""The Inception Score at its ends, and what it refuses."""

import math

import pytest
import torch
from torch import Tensor

from fednet.errors import MeasureError
from fednet.metrics.inception import inception_score


def test_certain_and_even_gives_the_number_of_classes() -> None:
    assert inception_score(torch.eye(10).repeat(3, 1)) == pytest.approx(10)


def test_one_class_or_no_certainty_gives_one() -> None:
    assert inception_score(torch.eye(10)[:1].repeat(30, 1)) == pytest.approx(1)
    assert inception_score(torch.full((30, 10), 0.1)) == pytest.approx(1)


def test_it_is_the_exponential_of_the_mutual_information() -> None:
    rows = torch.tensor([[0.75, 0.25], [0.25, 0.75]])
    information = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert inception_score(rows) == pytest.approx(math.exp(information), rel=1e-6)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (torch.randn(50, 10), r"pass softmax\(logits\)"),
        (torch.full((50, 10), 0.2), "off by 1"),
        (torch.tensor([[1.5, -0.5]] * 5), "the least is -0.5"),
        (torch.full((50, 10), torch.nan), "NaN"),
        (torch.eye(10)[:9], "got 9 samples"),
        (torch.ones(10), "floating"),
        (torch.ones(5, 1), "at least 2 classes"),
    ],
)
def test_what_are_no_probabilities_is_refused(rows: Tensor, said: str) -> None:
    with pytest.raises(MeasureError, match=said):
        inception_score(rows)
