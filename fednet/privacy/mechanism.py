"""The privacy mechanism of a run: which noise, from which source, up to which budget.

Turns the configuration into numbers before anything is trained. Knows no data and no model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fednet.errors import PrivacyError
from fednet.federated.config import Federation
from fednet.privacy.accounting import Accountant, Expense, affordable, epsilon, noise_for
from fednet.privacy.client_level import ClientLevel
from fednet.privacy.config import DEFAULT_NOISE, PrivacyTerms
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


def make_mechanism(
    terms: PrivacyTerms, unit: Unit, federation: Federation, *, rate: float, planned: int
) -> PrivacyMechanism:
    """The mechanism of a configuration.

    Args:
        terms: how much noise, and how far.
        unit: what is protected.
        federation: of the rounds.
        rate: of sampling; 1 at client level.
        planned: accounted steps of a site, if all rounds are held.

    Raises:
        PrivacyError: no noise meets the target epsilon, the budget is below what one step costs, or a secure sum would
            cut off the noise in a client's change.
    """
    noise = terms.noise or DEFAULT_NOISE
    if terms.epsilon is not None:
        noise = _noise_for_target(terms.epsilon, terms.delta, rate, planned, terms.accountant)
    budget = PrivacyBudget(terms.budget or terms.epsilon, terms.delta, terms.accountant)
    least = federation.quorum if federation.secure is not None else 1
    mechanism = PrivacyMechanism(unit, rate, noise, terms.clip, budget, terms.seeded, least)
    if unit == "client" and federation.secure is not None:
        _require_unclipped(mechanism.client_level(), federation.secure.clip)
    one = mechanism.expense(1)
    if budget.epsilon is not None and affordable([], one, budget.epsilon, budget.delta, budget.accountant) < 1:
        cost = epsilon([one], budget.delta, budget.accountant)
        step, less = ("round", "") if unit == "client" else ("step", ", or lower train.rate")
        raise PrivacyError(
            f"privacy.budget {budget.epsilon:g} is below epsilon {cost:.4g}, the cost of one {step} "
            f"with noise {noise:g} at rate {rate:g}: raise the budget or the noise{less}"
        )
    return mechanism


def _require_unclipped(level: ClientLevel, clip: float) -> None:
    if clip < level.reach:
        raise PrivacyError(
            f"federation.secure.clip {clip:g} would cut off the noise in a site's change, of deviation "
            f"{level.deviation:.3g}, and no epsilon would hold: set it to {math.ceil(level.reach):d} or more, or lower "
            "privacy.clip"
        )


@lru_cache(maxsize=32)
def _noise_for_target(target: float, delta: float, rate: float, steps: int, accountant: Accountant) -> float:
    return noise_for(target, delta, rate, steps, accountant)
