"""A Gaussian of latent vectors for every class, from moments that sites add up without sending a picture.

A site's moments are, by class, its number of pictures (n), the sum of their latent vectors z and the sum of z z^T. The
moments of all sites add up to those of the pooled pictures, and so do the Gaussians. A contribution is divided by the
site's number of pictures and weighted by it: the mean of a round is then the pooled sums divided by all pictures, every
value is of the size of one latent vector, and a secure sum neither clips nor coarsens it.

A covariance of few vectors is singular, so the covariance within all classes counts in every class as much as
`shrinkage` pictures (the conjugate prior's posterior mean; after Friedman 1989, regularised discriminant analysis).

Source: Mariani et al. 2018 (arXiv 1803.09655), section 3.2, where one machine has all pictures. Knows no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import MethodError, ModelError
from fednet.methods.fedbagan.config import MAX_MOMENT

MIN_VARIANCE = 1e-6
"""Smallest variance in any direction."""


def zero_moments(sites: int, classes: int, latent: int) -> dict[str, Tensor]:
    """Moments of no pictures, which the round of moments begins with; float64."""
    return {
        "part": torch.zeros(sites, dtype=torch.float64),
        "count": torch.zeros(classes, dtype=torch.float64),
        "sum": torch.zeros(classes, latent, dtype=torch.float64),
        "outer": torch.zeros(classes, latent, latent, dtype=torch.float64),
    }


def latent_moments(latents: Tensor, labels: Tensor, classes: int, site: int, sites: int) -> dict[str, Tensor]:
    """A site's contribution; its weight is its number of pictures.

    Args:
        latents: (n, d), n > 0.
        labels: int64 (n,).
        classes: how many there are.
        site: the site's index, 0-based.
        sites: how many there are.

    Returns:
        "count" (classes,), "sum" (classes, d) and "outer" (classes, d, d), all divided by n; and "part" (sites,),
        1 / n at the site's index, which in the weighted mean becomes 1 / (all pictures) for every contributor.

    Raises:
        MethodError: a value beyond `MAX_MOMENT`, or one that is not finite.
    """
    state, exact = zero_moments(sites, classes, latents.shape[1]), latents.detach().to("cpu", torch.float64)
    for label in sorted(set(labels.tolist())):
        own = exact[labels == label]
        state["count"][label] = len(own)
        state["sum"][label], state["outer"][label] = own.sum(0), own.T @ own
    state["part"][site] = 1.0
    state = {name: value / len(latents) for name, value in state.items()}
    largest = float(torch.cat([value.flatten() for value in state.values()]).abs().max())  # NaN where there is one
    if not largest <= MAX_MOMENT:
        raise MethodError(
            f"moments of latent vectors reach {largest:.4g}, beyond {MAX_MOMENT:g}: raise autoencoder.penalty, or "
            "lower autoencoder.lr"
        )
    return state


@dataclass(frozen=True)
class ClassGaussians:
    """A Gaussian for every class; CPU tensors.

    Attributes:
        mean: float32 (classes, d).
        factor: float32 (classes, d, d), lower triangular; factor @ factor.T is the covariance.
        known: bool (classes,), whether any site has a picture of the class.
    """

    mean: Tensor
    factor: Tensor
    known: Tensor

    @classmethod
    def of(cls, total: ModelState, shrinkage: float) -> ClassGaussians:
        """The Gaussians of summed moments.

        Args:
            total: the mean of contributions, weighted by their numbers of pictures.
            shrinkage: pictures that the covariance within all classes counts for, in every class.

        Raises:
            ModelError: no site has contributed, or the covariances cannot be those of real latent vectors.
        """
        pictures = _pictures(total)
        count = (total["count"] * pictures).round()
        divisor = count.clamp(min=1)[:, None]
        mean = total["sum"] * pictures / divisor
        scatter = total["outer"] * pictures - divisor[..., None] * mean[:, :, None] * mean[:, None, :]
        within = scatter.sum(0) / pictures
        unbiased = (count - 1).clamp(min=1)[:, None, None]
        weight = (shrinkage / (shrinkage + count))[:, None, None]
        spread = (1 - weight) * scatter / unbiased + weight * within
        spread = (spread + spread.mT) / 2 + MIN_VARIANCE * torch.eye(mean.shape[1], dtype=torch.float64)
        factor, failed = torch.linalg.cholesky_ex(spread)
        if bool(failed.any()) or not bool(factor.isfinite().all()):
            raise ModelError("the moments are not those of latent vectors: hold the round of moments again")
        return cls(mean.float(), factor.float(), count > 0)

    @classmethod
    def blank(cls, classes: int, latent: int) -> ClassGaussians:
        """Gaussians with uninitialised numbers, for their shapes."""
        mean, factor = torch.empty(classes, latent), torch.empty(classes, latent, latent)
        return cls(mean, factor, torch.empty(classes, dtype=torch.bool))

    @property
    def covariance(self) -> Tensor:
        """Of every class, (classes, d, d)."""
        return self.factor @ self.factor.mT

    def draw(self, labels: Tensor, random: torch.Generator) -> Tensor:
        """A latent vector float32 (n, d) for every label, int64 (n,)."""
        noise = torch.randn(len(labels), self.mean.shape[1], generator=random)
        return self.place(labels, noise)

    def place(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Standard normal vectors (n, d) as vectors of the labels' Gaussians.

        Raises:
            ModelError: no site has a picture of one of the labels.
        """
        if not bool(self.known[labels].all()):
            label = int(labels[~self.known[labels]][0])
            raise ModelError(f"no site has a picture of class {label}: leave it out")
        return self.mean[labels] + torch.einsum("nij,nj->ni", self.factor[labels], noise)


def _pictures(total: ModelState) -> float:
    """How many pictures the moments are of: each contributor's part is 1 / that."""
    part = float(total["part"].max())
    if not part > 0:
        raise ModelError("no moments have been summed yet: hold the round of moments first")
    return round(1 / part)
