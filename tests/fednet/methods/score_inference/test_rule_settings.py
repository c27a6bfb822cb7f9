"""Settings of rules: the power of a product defaults to what the rule's name says; `top_k` is one at least."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fednet.methods.score_inference.rule_settings import GeometricMean, Tempered, Weighted


def test_the_power_is_that_of_the_name() -> None:
    assert Tempered.model_validate({"kind": "product"}).power is None
    assert GeometricMean.model_validate({"kind": "geometric-mean"}).power == 1.0


@pytest.mark.parametrize("settings", [{"power": 0.0}, {"power": -1.0}, {"resample": 0.0}, {"resample": 1.5}, {"x": 1}])
def test_what_makes_no_distribution_is_refused(settings: dict[str, float]) -> None:
    for kind in (Tempered, GeometricMean):
        with pytest.raises(ValidationError):
            kind.model_validate({"kind": "product", **settings})


def test_all_sites_are_asked_unless_top_k_says_otherwise() -> None:
    assert Weighted.model_validate({"kind": "mixture"}).top_k is None
    assert Weighted.model_validate({"kind": "mixture", "top_k": 2}).top_k == 2
    with pytest.raises(ValidationError):
        Weighted.model_validate({"kind": "mixture", "top_k": 0})
