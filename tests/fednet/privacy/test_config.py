"""The terms of a privacy mechanism: noise or a target, a budget that buys the plan, a rule that is a sum."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fednet.federated.config import Federation
from fednet.privacy.config import PrivacyTerms, require_sum


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"noise": 1.0, "epsilon": 8.0}, "not both"),
        ({"epsilon": 8.0, "budget": 7.0}, "is below privacy.epsilon 8"),
        ({"noise": 0.0}, "greater than 0"),
        ({"delta": 1.0}, "less than 1"),
        ({"clip": float("inf")}, "finite"),
    ],
)
def test_terms_that_no_run_can_have_are_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        PrivacyTerms.model_validate(values)


def test_a_rule_that_is_no_sum_is_refused() -> None:
    require_sum(Federation(), "privacy")
    with pytest.raises(ValueError, match=r"privacy is accounted for a sum; federation.rule median is none"):
        require_sum(Federation.model_validate({"rule": {"kind": "median"}}), "privacy")
