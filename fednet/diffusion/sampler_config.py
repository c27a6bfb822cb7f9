"""Configuration of the samplers in `fednet.diffusion.sampling` and `few_steps`; imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Settings(BaseModel):
    """Settings of a sampler; `noisy` says whether its steps add noise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    noisy: ClassVar[bool] = False


class ODE(_Settings):
    """The probability-flow ODE, integrated by torchdiffeq.

    Attributes:
        method: dopri5 adapts its steps to the tolerances; the others take `steps` equal steps in t.
        rtol: relative tolerance of dopri5.
        atol: absolute tolerance of dopri5.
        steps: number of steps of the fixed-step methods.
        evaluations: after so many of them dopri5 gives up; ordinary runs take some hundred.
    """

    kind: Literal["ode"] = "ode"
    method: Literal["dopri5", "euler", "midpoint", "heun3", "rk4"] = "dopri5"
    rtol: float = Field(default=1e-3, gt=0.0)
    atol: float = Field(default=1e-3, gt=0.0)
    steps: int = Field(default=50, ge=1)
    evaluations: int = Field(default=5000, ge=1)


class EulerMaruyama(_Settings):
    """The reverse SDE in `steps` equal steps in t (Euler-Maruyama).

    Attributes:
        steps: number of steps.
        noise: quadratic variation of the noise in units of g^2. All values have the same marginals where the score is
            that of a density; more noise mixes the particles of a product, and costs divergences under rules that
            follow densities.
    """

    noisy: ClassVar[bool] = True
    kind: Literal["euler-maruyama"] = "euler-maruyama"
    steps: int = Field(default=200, ge=1)
    noise: float = Field(default=1.0, gt=0.0, le=100.0)


class PredictorCorrector(_Settings):
    """An Euler-Maruyama step, then `corrections` Langevin steps at the new time.

    Attributes:
        steps: number of predictor steps.
        corrections: Langevin steps after each of them.
        snr: size of a Langevin step, eps = 2 (snr std(t))^2.
    """

    noisy: ClassVar[bool] = True
    kind: Literal["predictor-corrector"] = "predictor-corrector"
    steps: int = Field(default=100, ge=1)
    corrections: int = Field(default=1, ge=1)
    snr: float = Field(default=0.1, gt=0.0, le=1.0)


class _FewSteps(_Settings):
    """A deterministic solver of the probability-flow ODE in few steps.

    Attributes:
        steps: number of steps, the denoising step at the end not counted.
        spacing: of the steps from t = 1 to t = eps: even in log(std / alpha), or in its rho-th root (Karras et al.
            2022, eq. 5), which takes shorter steps at low noise.
        rho: of `karras`.
    """

    steps: int = Field(default=20, ge=1)
    spacing: Literal["log-snr", "karras"] = "log-snr"
    rho: float = Field(default=7.0, gt=0.0)


class DPMSolver(_FewSteps):
    """DPM-Solver++ (2M), one evaluation a step (Lu et al. 2022, arXiv 2211.01095)."""

    kind: Literal["dpm-solver++"] = "dpm-solver++"


class Heun(_FewSteps):
    """Heun's second-order method in std / alpha, two evaluations a step (Karras et al. 2022, arXiv 2206.00364)."""

    kind: Literal["heun"] = "heun"
    spacing: Literal["log-snr", "karras"] = "karras"


SamplerConfig = Annotated[ODE | EulerMaruyama | PredictorCorrector | DPMSolver | Heun, Field(discriminator="kind")]
"""One of these, discriminated by `kind`."""
