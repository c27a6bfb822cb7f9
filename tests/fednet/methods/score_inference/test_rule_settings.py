"""Settings of rules that are products: the power defaults to what the rule's name says."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fednet.methods.score_inference.rule_settings import GeometricMean, Tempered


def test_the_power_is_that_of_the_name() -> None:
    assert Tempered.model_validate({"kind": "product"}).power is None
    assert GeometricMean.model_validate({"kind": "geometric-mean"}).power == 1.0


@pytest.mark.parametrize("settings", [{"power": 0.0}, {"power": -1.0}, {"resample": 0.0}, {"resample": 1.5}, {"x": 1}])
def test_what_makes_no_distribution_is_refused(settings: dict[str, float]) -> None:
    for kind in (Tempered, GeometricMean):
        with pytest.raises(ValidationError):
            kind.model_validate({"kind": "product", **settings})
