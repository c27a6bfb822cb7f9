"""Agreement of agents on scores whose angles are known."""

import math

import pytest
import torch
from torch import Tensor

from fednet.errors import MeasureError
from fednet.metrics.agreement import agreement


def test_equal_agents_agree_fully() -> None:
    score = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    found = agreement({"b": score, "a": score})
    assert list(found) == ["a", "b"]
    assert found["a"].cosine == pytest.approx(1)
    assert found["a"].magnitude == pytest.approx(float(score.flatten(1).norm(dim=1).mean()))


def test_perpendicular_agents_are_at_half_a_right_angle_to_the_mean() -> None:
    found = agreement({"a": torch.tensor([[2.0, 0.0]]), "b": torch.tensor([[0.0, 2.0]])})
    assert found["a"].cosine == pytest.approx(math.sqrt(0.5))
    assert found["b"].magnitude == pytest.approx(2)


def test_a_larger_agent_pulls_the_mean_to_its_side() -> None:
    found = agreement({"a": torch.tensor([[3.0, 0.0]]), "b": torch.tensor([[0.0, 1.0]])})
    assert found["a"].cosine == pytest.approx(3 / math.sqrt(10))
    assert found["b"].cosine == pytest.approx(1 / math.sqrt(10))


def test_opposite_agents_have_no_mean() -> None:
    found = agreement({"a": torch.tensor([[1.0]]), "b": torch.tensor([[-1.0]])})
    assert found["a"].cosine == 0


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({}, "one shape"),
        ({"a": torch.ones(2, 3), "b": torch.ones(2, 4)}, "one shape"),
        ({"a": torch.ones(0, 3)}, "non-empty"),
        ({"a": torch.ones(2, 3), "b": torch.full((2, 3), torch.nan)}, "scores of b hold NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused(scores: dict[str, Tensor], said: str) -> None:
    with pytest.raises(MeasureError, match=said):
        agreement(scores)
