"""The privacy mechanism of a run: which noise, from which source, up to which budget.

Turns the configuration into numbers before anything is trained. Knows no data and no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fednet.data.site_data import check_data
from fednet.errors import PrivacyError
from fednet.methods.private_gan.config import DEFAULT_NOISE, PrivateGanConfig
from fednet.privacy.accounting import Accountant, Expense, affordable, epsilon, noise_for
from fednet.privacy.client_level import ClientLevel
from fednet.privacy.ledger import PrivacyBudget, PrivacyLedger, Unit
from fednet.privacy.noise import NoiseSource


@dataclass(frozen=True)
class PrivacyMechanism:
    """How a site protects what it contributes.

    Attributes:
        unit: what is protected: an example, or a client.
        rate: of sampling; 1 at client level.
        noise: in clipping norms.
        clip: the norm.
        budget: at which epsilon training stops.
        seeded: noise from the seed: NOT PRIVATE.
        least: contributors that share the noise at client level: the quorum of a secure round; 1 in a plain one, where
            every update is seen by itself.
    """

    unit: Unit
    rate: float
    noise: float
    clip: float
    budget: PrivacyBudget
    seeded: bool
    least: int

    def expense(self, steps: int) -> Expense:
        """Steps of DP-SGD, or rounds at client level, for the accountant."""
        return Expense(self.rate, self.noise, steps)

    def client_level(self) -> ClientLevel:
        """The settings of client-level privacy."""
        return ClientLevel(clip=self.clip, noise=self.noise, least=self.least)

    def source(self, seed: int, *purpose: str | int) -> NoiseSource:
        """Fresh secret noise, or the seeded one for tests."""
        return NoiseSource.seeded(seed, *purpose) if self.seeded else NoiseSource()

    def ledger(self, path: Path) -> PrivacyLedger:
        """The ledger of what was spent."""
        return PrivacyLedger(path, self.unit)


def privacy_mechanism(config: PrivateGanConfig) -> PrivacyMechanism | None:
    """The mechanism of a configuration; None where nothing is protected.

    Raises:
        PrivacyError: no noise meets the target epsilon, or the budget is below what one step costs.
    """
    privacy = config.privacy
    if privacy.level == "none":
        return None
    rate = 1.0 if privacy.level == "client" else config.train.rate
    noise = privacy.noise or DEFAULT_NOISE
    if privacy.epsilon is not None:
        noise = _noise_for_target(privacy.epsilon, privacy.delta, rate, config.planned(), privacy.accountant)
    budget = PrivacyBudget(privacy.budget or privacy.epsilon, privacy.delta, privacy.accountant)
    least = config.federation.quorum if config.federation.secure is not None else 1
    mechanism = PrivacyMechanism(privacy.level, rate, noise, privacy.clip, budget, privacy.seeded, least)
    one = mechanism.expense(1)
    if budget.epsilon is not None and affordable([], one, budget.epsilon, budget.delta, budget.accountant) < 1:
        cost = epsilon([one], budget.delta, budget.accountant)
        raise PrivacyError(
            f"privacy.budget {budget.epsilon:g} is below epsilon {cost:.4g}, the cost of one {_step_name(mechanism)} "
            f"with noise {noise:g} at rate {rate:g}: raise the budget or the noise, or lower train.rate"
        )
    return mechanism


def check(config: PrivateGanConfig, overrides: Mapping[str, Any] | None = None) -> None:
    """Checks that the budget buys anything at all, and that the data, those of a site with `overrides`, exists.

    Raises:
        DataError: the data is missing or malformed.
        PrivacyError: the budget is below what one step costs, or no noise meets the target.
    """
    privacy_mechanism(config)
    check_data(config.data, overrides)


def _step_name(mechanism: PrivacyMechanism) -> str:
    return "round" if mechanism.unit == "client" else "step"


@lru_cache(maxsize=32)
def _noise_for_target(target: float, delta: float, rate: float, steps: int, accountant: Accountant) -> float:
    return noise_for(target, delta, rate, steps, accountant)
