"""The accountants against the numbers of the method's page, against closed forms, and each other."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm

from fednet.errors import PrivacyError
from fednet.privacy.accounting import Expense, affordable, epsilon, noise_for, spent

DELTA = 1e-5


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "rdp", "prv"),
    [
        (1 / 92, 1.0, 92, 1.253, 0.771),
        (1 / 92, 1.0, 2300, 3.362, 3.057),
        (256 / 60000, 1.1, 14062, 2.597, 2.392),
        (64 / 1437, 1.0, 449, 6.937, 6.271),
    ],
)
def test_the_numbers_of_the_page(rate: float, noise: float, steps: int, rdp: float, prv: float) -> None:
    found = spent([Expense(rate, noise, steps)], DELTA)
    assert found.rdp == pytest.approx(rdp, rel=0.01)
    assert found.prv == pytest.approx(prv, rel=0.01)
    assert (found.by("rdp"), found.by("prv")) == (found.rdp, found.prv)


def test_the_noise_for_an_epsilon_of_50() -> None:
    assert noise_for(50.0, DELTA, 1 / 98, 1960) == pytest.approx(0.385, rel=0.01)


@pytest.mark.parametrize(("target", "rate", "steps"), [(2.0, 0.05, 300), (8.0, 0.1, 50), (1.0, 1.0, 3)])
def test_a_noise_keeps_its_target_and_wastes_nothing(target: float, rate: float, steps: int) -> None:
    noise = noise_for(target, DELTA, rate, steps)
    assert epsilon([Expense(rate, noise, steps)], DELTA) <= target
    assert epsilon([Expense(rate, noise / 1.001, steps)], DELTA) > target


def test_without_sampling_both_bounds_hold_the_exact_epsilon() -> None:
    """One Gaussian release: delta(epsilon) by Balle and Wang's theorem 8, and composition adds the squares."""
    one, exact = Expense(1.0, 2.0, 9), epsilon([Expense(1.0, 2.0, 9)], DELTA, "prv")
    mu = 3 / 2.0
    delta = norm.cdf(mu / 2 - exact / mu) - math.exp(exact) * norm.cdf(-mu / 2 - exact / mu)
    assert delta == pytest.approx(DELTA, rel=1e-4)
    assert epsilon([one], DELTA, "rdp") >= exact
    assert epsilon([Expense(1.0, 2.0, 4), Expense(1.0, 2.0, 5)], DELTA, "prv") == pytest.approx(exact)


def test_costs_grow_with_steps_and_rate_and_shrink_with_noise() -> None:
    def cost(rate: float = 0.05, noise: float = 1.0, steps: int = 50) -> float:
        return epsilon([Expense(rate, noise, steps)], DELTA)

    assert cost(steps=60) > cost() > 0
    assert cost(rate=0.06) > cost()
    assert cost(noise=1.1) < cost()


def test_order_and_division_of_a_history_do_not_matter() -> None:
    a, b = Expense(0.05, 1.0, 30), Expense(0.1, 2.0, 10)
    for accountant in ("rdp", "prv"):
        whole = epsilon([a, b], DELTA, accountant)
        assert epsilon([b, a], DELTA, accountant) == pytest.approx(whole, rel=1e-9)
        halves = [Expense(0.05, 1.0, 15), b, Expense(0.05, 1.0, 15)]
        assert epsilon(halves, DELTA, accountant) == pytest.approx(whole, rel=1e-9)
    assert epsilon([], DELTA) == 0.0 == epsilon([Expense(0.1, 1.0, 0)], DELTA)


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_a_budget_buys_the_last_step_that_fits_and_no_more(accountant: str) -> None:
    before, wanted = [Expense(0.05, 1.0, 20)], Expense(0.1, 1.0, 400)
    steps = affordable(before, wanted, 4.0, DELTA, accountant)  # type: ignore[arg-type]
    assert 0 < steps < 400
    assert epsilon([*before, Expense(0.1, 1.0, steps)], DELTA, accountant) <= 4.0  # type: ignore[arg-type]
    assert epsilon([*before, Expense(0.1, 1.0, steps + 1)], DELTA, accountant) > 4.0  # type: ignore[arg-type]
    assert affordable(before, wanted, 0.1, DELTA) == 0
    assert affordable(before, wanted, 1e3, DELTA) == 400


def test_a_hopeless_epsilon_is_told_quickly_by_the_other_bound() -> None:
    assert epsilon([Expense(0.05, 0.385, 2000)], DELTA, "prv") == epsilon([Expense(0.05, 0.385, 2000)], DELTA, "rdp")


@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.0, 1.0, 1), (1.1, 1.0, 1), (0.1, 0.0, 1), (0.1, 1.0, -1)])
def test_what_is_no_mechanism_is_refused(rate: float, noise: float, steps: int) -> None:
    with pytest.raises(PrivacyError, match="no mechanism"):
        Expense(rate, noise, steps)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(PrivacyError, match="delta lies between 0 and 1"):
        epsilon([Expense(0.1, 1.0, 1)], 0.0)
    with pytest.raises(PrivacyError, match="a target epsilon is above 0"):
        noise_for(0.0, DELTA, 0.1, 5)
    with pytest.raises(PrivacyError, match="no noise makes"):
        noise_for(1e-9, DELTA, 1.0, 1000)
