"""Settings of external training: defaults, bounds, and options that only the scripts read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fednet.federated.floors import floor_of
from fednet.methods.external_training.config import ExternalTrainingConfig


def test_options_are_the_scripts_own() -> None:
    config = ExternalTrainingConfig.model_validate({"rounds": 3, "options": {"lr": 0.1, "augment": True}})
    assert config.options == {"lr": 0.1, "augment": True}


@pytest.mark.parametrize(
    "values",
    [
        {"rounds": 0},
        {"linger": -1.0},
        {"linger": float("inf")},
        {"options": {"x": [1]}},
        {"epochs": 3},
        {"privacy": {}, "federation": {"rule": {"kind": "median"}}},
        {"privacy": {"level": "example"}},
    ],
)
def test_what_no_run_can_have_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExternalTrainingConfig.model_validate(values)


def test_with_privacy_all_contributions_count_the_same() -> None:
    config = ExternalTrainingConfig.model_validate({"privacy": {}, "federation": {"quorum": 3}})
    assert floor_of(config).shares_noise
    assert floor_of(config).quorum == 3
    assert not floor_of(ExternalTrainingConfig()).shares_noise
