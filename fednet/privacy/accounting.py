"""What privacy costs: the epsilon of noisy steps, the noise for an epsilon, and how many steps a budget still buys.

One step is the Gaussian mechanism on a Poisson sample: every example is in it with probability `rate`, the sum of the
clipped gradients gets noise of `noise` times the clipping norm. Two data sets are neighbours if one has one example
more; how many examples there are counts as public. Two accountants, both Opacus': RDP (Mironov 2017, arXiv 1702.07476,
and Mironov et al. 2019, arXiv 1908.10530) is quick, PRV (Gopi et al. 2021, arXiv 2106.02848) tighter; both are upper
bounds. Knows no model and no data; what was spent is kept by `fednet.privacy.ledger`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from fednet.errors import PrivacyError
from fednet.privacy.opacus_parts import PRVAccountant, RDPAccountant, renyi

Accountant = Literal["rdp", "prv"]

ORDERS = (*RDPAccountant.DEFAULT_ALPHAS, 64, 80, 96, 128, 192, 256, 512)
"""Opacus' orders of Renyi's divergence, and some larger ones for small epsilons."""
HOPELESS = 60.0
"""An epsilon beyond which PRV's grid takes minutes: the RDP bound stands in for it."""
LEAST_NOISE, MOST_NOISE = 0.05, 1e4
"""Between which a noise for a target is looked for."""


@dataclass(frozen=True)
class Expense:
    """Equal steps of the subsampled Gaussian mechanism.

    Attributes:
        rate: the probability of an example to be in a step, in (0, 1]; 1 is no sampling.
        noise: the deviation of the noise in clipping norms, > 0.
        steps: how many, at least 0.
    """

    rate: float
    noise: float
    steps: int

    def __post_init__(self) -> None:
        if not (0.0 < self.rate <= 1.0 and 0.0 < self.noise < math.inf and self.steps >= 0):
            raise PrivacyError(
                f"no mechanism has rate {self.rate}, noise {self.noise} and {self.steps} steps: the rate lies in "
                "(0, 1], noise is above 0, steps are at least 0"
            )


@dataclass(frozen=True)
class Spent:
    """What a history of expenses has cost at some delta: epsilon by either accountant."""

    rdp: float
    prv: float
    delta: float

    def by(self, accountant: Accountant) -> float:
        """The epsilon by one accountant."""
        return self.rdp if accountant == "rdp" else self.prv


def epsilon(expenses: Sequence[Expense], delta: float, accountant: Accountant = "rdp") -> float:
    """The epsilon of a history at `delta`, at least 0; an upper bound.

    PRV's is never above RDP's, since both are bounds; where it would take minutes it is RDP's.

    Raises:
        PrivacyError: delta is not between 0 and 1.
    """
    if not 0.0 < delta < 1.0:
        raise PrivacyError(
            f"delta lies between 0 and 1, not at {delta}: take less than one over the number of examples"
        )
    taken = [expense for expense in expenses if expense.steps]
    if not taken:
        return 0.0
    bound = _rdp(taken, delta)
    return bound if accountant == "rdp" or bound > HOPELESS else min(bound, _prv(taken, delta))


def spent(expenses: Sequence[Expense], delta: float) -> Spent:
    """The epsilon of a history by both accountants."""
    return Spent(epsilon(expenses, delta, "rdp"), epsilon(expenses, delta, "prv"), delta)


def noise_for(target: float, delta: float, rate: float, steps: int, accountant: Accountant = "rdp") -> float:
    """The least noise, up to one part in 2000, with which `steps` steps cost at most `target`.

    Raises:
        PrivacyError: no noise does, or the target is not above 0.
    """
    if not 0.0 < target < math.inf or steps < 1:
        raise PrivacyError(f"a target epsilon is above 0 and is for at least one step; got {target}, {steps} steps")

    def cost(noise: float) -> float:
        return epsilon([Expense(rate, noise, steps)], delta, accountant)

    low, high = LEAST_NOISE, 1.0
    while cost(high) > target:
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise PrivacyError(
                f"no noise makes {steps} steps at rate {rate:g} cost at most epsilon {target:g} at delta {delta:g}: "
                "raise the target, or take fewer steps or a smaller rate"
            )
    if cost(low) <= target:
        return low
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if cost(middle) > target else (low, middle)
    return high


def affordable(
    before: Sequence[Expense], wanted: Expense, budget: float, delta: float, accountant: Accountant = "rdp"
) -> int:
    """How many of the wanted steps can be taken after a history without ever exceeding the budget, 0 to all."""

    def cost(steps: int) -> float:
        return epsilon([*before, Expense(wanted.rate, wanted.noise, steps)], delta, accountant)

    if cost(wanted.steps) <= budget:
        return wanted.steps
    low, high = -1, wanted.steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return max(0, low)


@lru_cache(maxsize=256)
def _one_step(rate: float, noise: float) -> NDArray[np.float64]:
    """Renyi's divergence of one step at every order."""
    divergences: Any = renyi.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=ORDERS)
    return np.asarray(divergences, dtype=np.float64)


def _rdp(expenses: Sequence[Expense], delta: float) -> float:
    total = sum((expense.steps * _one_step(expense.rate, expense.noise) for expense in expenses), np.zeros(len(ORDERS)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the best order is the first or last: the bound holds
        epsilon, _ = renyi.get_privacy_spent(orders=ORDERS, rdp=total, delta=delta)
    return max(0.0, float(epsilon))


def _prv(expenses: Sequence[Expense], delta: float) -> float:
    if all(expense.rate == 1.0 for expense in expenses):
        return _gaussian(math.sqrt(sum(expense.steps / expense.noise**2 for expense in expenses)), delta)
    merged: dict[tuple[float, float], int] = {}
    for expense in expenses:
        kind = (expense.noise, expense.rate)
        merged[kind] = merged.get(kind, 0) + expense.steps
    return _prv_of(tuple((noise, rate, steps) for (noise, rate), steps in sorted(merged.items())), delta)


@lru_cache(maxsize=256)
def _prv_of(history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    accountant = PRVAccountant()
    accountant.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # logarithms of zero beyond the grid's ends
        try:
            return max(0.0, float(accountant.get_epsilon(delta)))
        except (ValueError, RuntimeError, MemoryError):
            return math.inf  # its grid does not fit: RDP's bound stands


def _gaussian(mu: float, delta: float) -> float:
    """The exact epsilon of the Gaussian mechanism of sensitivity mu deviations (Balle and Wang 2018, theorem 8)."""

    def excess(value: float) -> float:
        low = norm.logcdf(-mu / 2 - value / mu) + value
        return float(norm.cdf(mu / 2 - value / mu) - math.exp(low) - delta)

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-9))
