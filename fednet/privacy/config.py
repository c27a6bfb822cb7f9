"""The settings of a privacy mechanism, the same for every method that has one. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fednet.federated.config import Federation, Mean

DEFAULT_NOISE = 1.0


class PrivacyTerms(BaseModel):
    """How much noise, and how far.

    Attributes:
        noise: deviation of the noise in clipping norms; 1 where no epsilon is given.
        epsilon: instead of the noise: what all planned rounds may cost; the noise follows, and it is the budget.
        budget: the epsilon at which training stops; default: that of `epsilon`, or no stop.
        delta: at this delta.
        accountant: whose epsilon counts for target and budget; both are reported.
        clip: largest norm of a picture's gradient, or of a site's change.
        ledger: a folder for the sites' ledgers of what was ever spent of their data, in all runs; default: one in the
            run's folder, which is deleted with the run.
        seeded: noise from the run's seed, for tests: NOT PRIVATE.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    noise: float | None = Field(default=None, gt=0.0)
    epsilon: float | None = Field(default=None, gt=0.0)
    budget: float | None = Field(default=None, gt=0.0)
    delta: float = Field(default=1e-5, gt=0.0, lt=1.0)
    accountant: Literal["rdp", "prv"] = "rdp"
    clip: float = Field(default=1.0, gt=0.0)
    ledger: Path | None = None
    seeded: bool = False

    @model_validator(mode="after")
    def _noise_or_target(self) -> Self:
        if self.noise is not None and self.epsilon is not None:
            raise ValueError("give privacy.noise or privacy.epsilon, not both: the one follows from the other")
        if self.epsilon is not None and self.budget is not None and self.budget < self.epsilon:
            raise ValueError(
                f"privacy.budget {self.budget:g} is below privacy.epsilon {self.epsilon:g}, the plan's cost"
            )
        return self


def require_sum(federation: Federation, setting: str) -> None:
    """Refuses rules that client-level privacy is not accounted for.

    Args:
        federation: of the rounds.
        setting: that asks for client-level privacy, as a person writes it.

    Raises:
        ValueError: the rule is not the mean.
    """
    if not isinstance(federation.rule, Mean):
        raise ValueError(f"{setting} is accounted for a sum; federation.rule {federation.rule.kind} is none: take mean")
