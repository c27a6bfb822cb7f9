"""How large a score and its divergence can be, whatever the data in [-1, 1]: what is far beyond is no score.

By Tweedie's formula s = (alpha E[x_0 | x_t] - x_t) / std^2, and its Jacobian is (alpha^2 Cov[x_0 | x_t] / std^2 - 1) /
std^2. All d coordinates of x_0 lie in [-r, r] (r = 1 for pictures), so |E| <= r sqrt(d) and the covariance's
eigenvalues lie in [0, r^2 d]:

    |s|        <= (|x_t| + alpha r sqrt(d)) / std^2
    |v . J v|  <= d max(1, alpha^2 r^2 d / std^2) / std^2        for a probe v of d signs

Guidance g mixes two scores as (1 - g) s_any + g s_label, which multiplies both by |1 - g| + |g|. A trained network
errs, and a model may reach beyond [-1, 1]: SLACK allows for it. Knows no network and no site.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fednet.diffusion.sde import SDE

SLACK = 10.0
"""How many times the bound an answer may be."""


def score_excess(score: Tensor, x: Tensor, t: float, sde: SDE, *, guidance: float = 1.0, reach: float = 1.0) -> float:
    """The largest score of a batch in units of its bound, at least 0; above 1 none is a score of data in [-1, 1].

    Args:
        score: finite (n, ...), the scores at x.
        x: (n, ...).
        t: in (0, 1].
        sde: the forward diffusion.
        guidance: of the scores, at least 0.
        reach: r, the largest absolute value of the data.
    """
    alpha, std = _marginal(sde, t)
    largest = (_norms(x) + alpha * reach * math.sqrt(x[0].numel())) / std**2
    return float((_norms(score) / (SLACK * _mixing(guidance) * largest)).max())


def divergence_excess(
    divergence: Tensor, x: Tensor, t: float, sde: SDE, *, guidance: float = 1.0, reach: float = 1.0
) -> float:
    """The same of Hutchinson's estimates (n,) of the scores' divergences."""
    alpha, std = _marginal(sde, t)
    size = x[0].numel()
    largest = size * max(1.0, (alpha * reach) ** 2 * size / std**2) / std**2
    return float(divergence.double().abs().max()) / (SLACK * _mixing(guidance) * largest)


def _norms(values: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values.double().flatten(1), dim=1)
    return norms


def _mixing(guidance: float) -> float:
    return abs(1.0 - guidance) + abs(guidance)


def _marginal(sde: SDE, t: float) -> tuple[float, float]:
    alpha, std = sde.marginal(torch.tensor(t, dtype=torch.float64))
    return float(alpha), float(std)
