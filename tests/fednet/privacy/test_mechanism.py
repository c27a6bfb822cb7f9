"""The mechanism of settings: the noise of a target, a budget that buys nothing, who shares the noise."""

from __future__ import annotations

from typing import Any

import pytest

from fednet.errors import PrivacyError
from fednet.federated.config import Federation
from fednet.privacy.accounting import Expense, epsilon
from fednet.privacy.config import PrivacyTerms
from fednet.privacy.mechanism import PrivacyMechanism, make_mechanism


def made(federation: dict[str, Any], **terms: Any) -> PrivacyMechanism:
    settings = PrivacyTerms.model_validate(terms)
    return make_mechanism(settings, "client", Federation.model_validate(federation), rate=1.0, planned=20)


def test_a_target_gives_the_noise_that_spends_it_on_the_whole_plan() -> None:
    mechanism = made({}, epsilon=6.0)
    assert mechanism.budget.epsilon == 6.0
    assert 5.9 < epsilon([mechanism.expense(20)], 1e-5) <= 6.0
    assert mechanism.expense(3) == Expense(1.0, mechanism.noise, 3)


def test_a_budget_below_the_cost_of_one_round_is_refused_with_the_cost() -> None:
    cost = epsilon([Expense(1.0, 1.0, 1)], 1e-5)
    with pytest.raises(PrivacyError, match=rf"budget 0\.5 is below epsilon {cost:.4g}, the cost of one round"):
        made({}, budget=0.5)
    assert made({}, budget=cost * 1.001).noise == 1.0


@pytest.mark.parametrize(("federation", "least"), [({"quorum": 3}, 1), ({"quorum": 3, "secure": {"clip": 8}}, 3)])
def test_noise_is_shared_only_behind_a_secure_sum(federation: dict[str, Any], least: int) -> None:
    assert made(federation).client_level().least == least


def test_a_secure_sum_that_would_cut_off_noise_is_refused_with_the_clip_that_does_not() -> None:
    """Each number of a change carries noise of deviation 2 / sqrt(4); what is clipped away protects nobody."""
    terms = {"noise": 2.0, "clip": 1.0}
    with pytest.raises(PrivacyError, match=r"clip 10\.9 would cut off the noise .* set it to 11 or more"):
        made({"quorum": 4, "secure": {"clip": 10.9}}, **terms)
    assert made({"quorum": 4, "secure": {"clip": 11.0}}, **terms).client_level().reach == 11.0
