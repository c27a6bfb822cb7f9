"""Configuration of the samplers in `fednet.diffusion.sampling`; imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
    """The reverse SDE in `steps` equal steps in t (Euler-Maruyama)."""

    kind: Literal["euler-maruyama"] = "euler-maruyama"
    steps: int = Field(default=200, ge=1)


class PredictorCorrector(_Settings):
    """An Euler-Maruyama step, then `corrections` Langevin steps at the new time.

    Attributes:
        steps: number of predictor steps.
        corrections: Langevin steps after each of them.
        snr: size of a Langevin step, eps = 2 (snr std(t))^2.
    """

    kind: Literal["predictor-corrector"] = "predictor-corrector"
    steps: int = Field(default=100, ge=1)
    corrections: int = Field(default=1, ge=1)
    snr: float = Field(default=0.1, gt=0.0, le=1.0)


SamplerConfig = Annotated[ODE | EulerMaruyama | PredictorCorrector, Field(discriminator="kind")]
"""One of the three, discriminated by `kind`."""
