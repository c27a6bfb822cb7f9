"""Settings of the built-in rules for scores that have some; imports no torch."""

from __future__ import annotations

from pydantic import Field

from fednet.rules.contract import RuleSettings


class Weighted(RuleSettings):
    """A weighted sum of the sites' scores.

    Attributes:
        top_k: the largest number of sites that a sample is sent to at a step, drawn by their weights; the others'
            answers are predicted from their last ones, and a site without weight is not asked
            (`fednet.diffusion.sparse`). As many as there are sites, or as have images of a sample's label, change no
            sample. None: all sites are sent all samples.
    """

    top_k: int | None = Field(default=None, ge=1)


class Tempered(RuleSettings):
    """A product of densities to a power, by particles that are resampled (`products.py`).

    Attributes:
        power: B, the sum of the exponents, each B / K; None: K, the product of all.
        resample: the effective sample size, as a share of the particles, below which they are resampled.
    """

    power: float | None = Field(default=None, gt=0.0)
    resample: float = Field(default=0.5, gt=0.0, le=1.0)


class GeometricMean(Tempered):
    """The geometric mean of the sites' densities, to a power: 1 for itself, more sharpens and less flattens it."""

    power: float = Field(default=1.0, gt=0.0)
