"""Bounds of scores: met by data at the edge, never exceeded by any, and far below what is no score."""

from __future__ import annotations

import pytest
import torch

from fednet.diffusion.bounds import SLACK, divergence_excess, score_excess
from fednet.diffusion.sde import SDE, VE, VP, SubVP
from fednet.seeds import generator


def exact(sde: SDE, x: torch.Tensor, t: float, data: torch.Tensor) -> torch.Tensor:
    """The score at x (n, d) of data (m, d), every row as likely as another."""
    alpha, std = (float(value) for value in sde.marginal(torch.tensor(t, dtype=torch.float64)))
    gaps = alpha * data[None] - x[:, None]
    weights = torch.softmax(-gaps.square().sum(2) / (2 * std**2), 1)
    return (weights[:, :, None] * gaps).sum(1) / std**2


@pytest.mark.parametrize("sde", [VE(), VP(), SubVP()], ids=lambda sde: sde.kind)
@pytest.mark.parametrize("t", [1e-3, 0.1, 0.5, 1.0])
def test_no_data_in_the_range_exceeds_them(sde: SDE, t: float) -> None:
    random = generator(0, "data")
    data = torch.randint(0, 2, (40, 9), generator=random).double() * 2 - 1
    x = torch.randn(200, 9, generator=random).double() * 3
    assert 0 < score_excess(exact(sde, x, t, data), x, t, sde) <= 1 / SLACK
    probe = torch.randint(0, 2, x.shape, generator=random).double() * 2 - 1
    x.requires_grad_()
    (slope,) = torch.autograd.grad((exact(sde, x, t, data) * probe).sum(), x)
    assert divergence_excess((slope * probe).sum(1), x, t, sde) <= 1 / SLACK


def test_what_is_no_score_exceeds_them() -> None:
    x, t = torch.randn(5, 1, 8, 8, generator=generator(0, "x")), 0.5
    score = -x
    assert score_excess(score, x, t, VP()) < 1 < score_excess(score * 1e3, x, t, VP())
    assert divergence_excess(torch.full((5,), 1e30), x, t, VP()) > 1


def test_guidance_widens_them() -> None:
    x, t = torch.ones(1, 4), 0.5
    assert score_excess(x, x, t, VP(), guidance=3.0) == pytest.approx(score_excess(x, x, t, VP()) / 5)
