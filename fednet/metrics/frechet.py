"""The Frechet distance of two sets of features, each taken for a Gaussian.

Heusel et al. 2017 (arXiv 1706.08500), section 2, after Dowson and Landau 1982:

    d^2 = |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))

This squared distance is what is called FID where the features are InceptionV3's; here they are whatever the caller
took, so numbers compare only within one extractor. tr (S_a S_b)^(1/2) is the sum of the singular values of
S_a^(1/2) S_b^(1/2): two symmetric eigenvalue problems and no square root of a matrix that is not symmetric, which is
where the usual code leaves the reals. Knows no pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fednet.errors import MeasureError


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The squared Frechet distance of the Gaussians fitted to two sets of features.

    Args:
        a: (n, d), n > d.
        b: (m, d), m > d.

    Returns:
        At least 0, in the squared units of the features. Biased upwards by small samples: compare it with the
        distance of equally many real ones.

    Raises:
        MeasureError: too few samples for a covariance of full rank, different widths, or non-finite features.
    """
    _check(a, "the first")
    _check(b, "the second")
    if a.shape[1] != b.shape[1]:
        raise MeasureError(f"features of width {a.shape[1]} and of width {b.shape[1]} cannot be compared")
    (mean_a, spread_a), (mean_b, spread_b) = _gaussian(a), _gaussian(b)
    cross = torch.linalg.svdvals(_root(spread_a) @ _root(spread_b)).sum()
    distance = (mean_a - mean_b).square().sum() + spread_a.trace() + spread_b.trace() - 2 * cross
    return max(float(distance), 0.0)


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and unbiased covariance (d, d), float64 on the CPU."""
    exact = features.detach().to("cpu", torch.float64)
    return exact.mean(0), torch.cov(exact.T).reshape(exact.shape[1], exact.shape[1])


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance; rounding may have made its least eigenvalues negative."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root


def _check(features: Tensor, which: str) -> None:
    if features.ndim != 2 or not features.is_floating_point() or features.shape[1] == 0:
        raise MeasureError(f"{which} features must be floating (n, d); got {features.dtype} {tuple(features.shape)}")
    count, width = features.shape
    if count < width + 1:
        raise MeasureError(
            f"a Frechet distance over {width} features needs at least {width + 1} samples on each side; "
            f"{which} set has {count}: draw more samples"
        )
    if not features.isfinite().all():
        raise MeasureError(f"{which} features hold NaN or infinity")
