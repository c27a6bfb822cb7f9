"""The configuration: invalid combinations are refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fednet.errors import ModelError
from fednet.methods.cmtii.config import CmtiiConfig, check


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"learn": {"diffusion": 0.0, "contrastive": 0.0}}, "both 0"),
        ({"aliases": {"x": "3", "y": "3"}}, "one alias a class"),
        ({"backend": {"kind": "embedded", "public": 0.0}}, "greater than 0"),
        ({"backend": {"kind": "imaginary"}}, "imaginary"),
        ({"backend": {"kind": "real"}}, "image_generator"),
        ({"learn": {"speed": 1}}, "speed"),
        ({"unknown": "guess"}, "refuse"),
    ],
)
def test_what_does_not_go_together_is_refused(keys: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        CmtiiConfig.model_validate(keys)


def test_the_defaults_are_sound() -> None:
    check(CmtiiConfig())
    assert CmtiiConfig().public == 0.4


def test_models_that_are_not_there_are_named(tmp_path: Path) -> None:
    config = CmtiiConfig.model_validate({"backend": {"kind": "real", "image_generator": tmp_path / "nowhere"}})
    assert config.public == 0.0
    with pytest.raises(ModelError, match=r"clip|image_generator"):
        check(config)
