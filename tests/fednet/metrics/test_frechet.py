"""The Frechet distance against what is known exactly, and against an independent way of computing it."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from fednet.errors import MeasureError
from fednet.metrics.frechet import frechet_distance


def draw(count: int, width: int, seed: int) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=chance, dtype=torch.float64)
    return torch.randn(count, width, generator=chance, dtype=torch.float64) @ mixing


def test_of_a_set_with_itself_it_is_zero() -> None:
    a = draw(50, 8, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a[torch.randperm(50)]) == pytest.approx(0, abs=1e-9)


def test_a_shift_costs_its_square() -> None:
    a, shift = draw(40, 5, 1), torch.arange(5.0, dtype=torch.float64)
    assert frechet_distance(a, a + shift) == pytest.approx(30)


def test_a_scale_costs_the_trace() -> None:
    a = draw(40, 5, 2)
    a = a - a.mean(0)
    assert frechet_distance(a, 3 * a) == pytest.approx(4 * float(a.var(0).sum()))


def test_in_one_dimension_it_is_means_and_deviations() -> None:
    a, b = draw(30, 1, 3), 2 * draw(45, 1, 4) + 1
    expected = float((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_it_is_symmetric_and_unmoved_by_rotation() -> None:
    a, b = draw(60, 6, 5), draw(70, 6, 6)
    turn = torch.linalg.qr(draw(6, 6, 7))[0]
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b))


def test_it_agrees_with_the_general_square_root() -> None:
    a, b = draw(60, 6, 8).numpy(), draw(70, 6, 9).numpy()
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(float(expected))


def test_dead_features_do_no_harm() -> None:
    a, b = draw(40, 4, 10), draw(40, 4, 11)
    dead = torch.zeros(40, 3, dtype=torch.float64)
    widened = frechet_distance(torch.cat([a, dead], 1), torch.cat([b, dead], 1))
    assert widened == pytest.approx(frechet_distance(a, b))


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (torch.randn(8, 8), torch.randn(20, 8), "at least 9 samples on each side; the first set has 8"),
        (torch.randn(20, 8), torch.randn(3, 8), "the second set has 3"),
        (torch.randn(20, 8), torch.randn(20, 7), "width 8 and of width 7"),
        (torch.full((20, 2), torch.nan), torch.randn(20, 2), "NaN or infinity"),
        (torch.randn(20, 2), torch.full((20, 2), torch.inf), "the second features hold"),
        (torch.randn(20), torch.randn(20), r"floating \(n, d\)"),
        (torch.ones(20, 2, dtype=torch.int64), torch.randn(20, 2), r"floating \(n, d\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(a: Tensor, b: Tensor, said: str) -> None:
    with pytest.raises(MeasureError, match=said):
        frechet_distance(a, b)
