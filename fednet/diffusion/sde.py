"""Forward diffusions as SDEs on t in [0, 1]: VE, VP and sub-VP.

An SDE is its own configuration: a frozen pydantic model with the functions that training and sampling need; torch is
imported only when one of them is called. All three have a linear drift, so x_t given x_0 is Gaussian:
x_t = alpha(t) x_0 + std(t) z.

Source: Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations"
(arXiv 2011.13456), section 3.4 and appendix B. VE follows the tutorial's form dx = sigma^t dw.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class SDE(BaseModel):
    """A forward diffusion dx = drift_rate(t) x dt + g(t) dw on t in [eps, 1].

    Attributes:
        eps: the time at which samplers stop and take the final denoising step; training starts there, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    eps: float = Field(default=1e-3, gt=0.0, lt=0.5)

    @property
    def remembers(self) -> bool:
        """Whether x_1 still depends on the data, so that agents' densities at t = 1 are not all the same."""
        return False

    @abstractmethod
    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha(t) and std(t) of x_t given x_0, each of t's shape."""

    @abstractmethod
    def drift_rate(self, t: Tensor) -> Tensor:
        """The factor of x in the drift, of t's shape (zero or negative)."""

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t), of t's shape."""

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """f(x, t) for x (n, ...) and a scalar t or one t a sample."""
        return over(self.drift_rate(t), x) * x

    def noised(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t for clean x (n, ...), t (n,) and standard normal noise of x's shape."""
        alpha, std = self.marginal(t)
        return over(alpha, x) * x + over(std, x) * noise

    def log_ratio(self, t: Tensor) -> Tensor:
        """log(std / alpha), minus half the log signal-to-noise ratio; grows strictly with t."""
        alpha, std = self.marginal(t)
        return (std / alpha).log()

    def condition(self, t: Tensor) -> Tensor:
        """The time conditioning of a network: the log ratio, mapped to 0..1000 over [eps, 1].

        Sinusoidal embeddings expect numbers of that size; raw t in (0, 1) would hardly change them.
        """
        import torch  # noqa: PLC0415 - a configuration is read without it

        low, high = map(float, self.log_ratio(torch.tensor([self.eps, 1.0], dtype=torch.float64)))
        return (self.log_ratio(t) - low) * (1000.0 / (high - low))

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Noise at t = 1: normal with deviation std(1), float32 of `shape`."""
        import torch  # noqa: PLC0415 - a configuration is read without it

        _, std = self.marginal(torch.ones(()))
        return torch.randn(shape, generator=generator) * std


class VE(SDE):
    """Variance exploding: dx = sigma^t dw, std(t)^2 = (sigma^(2t) - 1) / (2 ln sigma)."""

    kind: Literal["ve"] = "ve"
    sigma: float = Field(default=25.0, gt=1.0)

    @property
    def remembers(self) -> bool:
        """True: alpha(1) = 1, and std(1) is not much larger than the distance of two agents' data."""
        return True

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns alpha = 1 and std(t)."""
        log_sigma = math.log(self.sigma)
        return t.new_ones(t.shape), ((2 * t * log_sigma).expm1() / (2 * log_sigma)).sqrt()

    def drift_rate(self, t: Tensor) -> Tensor:
        """Zero: the variance grows, the mean stays."""
        return t.new_zeros(t.shape)

    def diffusion(self, t: Tensor) -> Tensor:
        """Returns g = sigma^t."""
        return (t * math.log(self.sigma)).exp()


class _Preserving(SDE):
    """What VP and sub-VP share: beta(t) = beta_min + t (beta_max - beta_min), drift -beta x / 2."""

    beta_min: float = Field(default=0.1, gt=0.0)
    beta_max: float = Field(default=20.0, gt=0.0)

    @model_validator(mode="after")
    def _ordered(self) -> _Preserving:
        if self.beta_max <= self.beta_min:
            raise ValueError(f"beta_max ({self.beta_max}) must be larger than beta_min ({self.beta_min})")
        return self

    def drift_rate(self, t: Tensor) -> Tensor:
        """-beta(t) / 2."""
        return -0.5 * self._beta(t)

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _integral(self, t: Tensor) -> Tensor:
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2


class VP(_Preserving):
    """Variance preserving, the continuous DDPM: dx = -beta x / 2 dt + sqrt(beta) dw."""

    kind: Literal["vp"] = "vp"

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns alpha = exp(-B / 2), std = sqrt(1 - exp(-B)) with B the integral of beta."""
        integral = self._integral(t)
        return (-0.5 * integral).exp(), (-(-integral).expm1()).sqrt()

    def diffusion(self, t: Tensor) -> Tensor:
        """Returns g = sqrt(beta)."""
        return self._beta(t).sqrt()


class SubVP(_Preserving):
    """Sub-VP: VP's drift with g^2 = beta (1 - exp(-2B)), so that std = 1 - exp(-B) stays below VP's."""

    kind: Literal["sub-vp"] = "sub-vp"

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns alpha = exp(-B / 2), std = 1 - exp(-B)."""
        integral = self._integral(t)
        return (-0.5 * integral).exp(), -(-integral).expm1()

    def diffusion(self, t: Tensor) -> Tensor:
        """Returns g = sqrt(beta (1 - exp(-2B)))."""
        return (self._beta(t) * -(-2 * self._integral(t)).expm1()).sqrt()


SDEConfig = Annotated[VE | VP | SubVP, Field(discriminator="kind")]
"""One of the three, discriminated by `kind`."""


def over(value: Tensor, x: Tensor) -> Tensor:
    """A scalar, or one value a sample (n,), shaped so that it multiplies x (n, ...)."""
    return value if value.dim() == 0 else value.view(-1, *[1] * (x.dim() - 1))
