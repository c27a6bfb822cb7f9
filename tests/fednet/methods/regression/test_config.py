"""What is refused before anything runs."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fednet.methods.regression.config import RegressionConfig


def test_an_empty_configuration_has_defaults() -> None:
    assert RegressionConfig.model_validate({}).rounds == 30


@pytest.mark.parametrize(
    "keys", [{"spread": 0.5}, {"examples": 0}, {"rounds": 0}, {"lr": 0.0}, {"slope": float("nan")}, {"else": 1}]
)
def test_what_does_not_fit_is_refused_and_named(keys: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(keys))):
        RegressionConfig.model_validate(keys)
