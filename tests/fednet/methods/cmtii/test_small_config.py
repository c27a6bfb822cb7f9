"""The configuration of the small models: valid defaults, and settings that no network can have are refused by key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fednet.methods.cmtii.small_config import SmallBackendConfig


def test_the_defaults_are_valid_and_survive_json() -> None:
    config = SmallBackendConfig()
    assert SmallBackendConfig.model_validate_json(config.model_dump_json()) == config
    assert config.clip.width % 8 == 0
    assert config.clip.pretraining.steps > 0
    assert config.image_generator.pretraining.steps > 0


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"public": 0.0}, "public"),
        ({"public": 1.0}, "public"),
        ({"seed": -1}, "seed"),
        ({"clip": {"width": 12}}, "clip.width"),
        ({"clip": {"vision": 24}}, "clip.vision"),
        ({"clip": {"pretraining": {"steps": 0, "batch": 1, "lr": 1.0}}}, "clip.pretraining.steps"),
        ({"clip": {"pretraining": {"steps": 1, "batch": 1, "lr": 0.0}}}, "clip.pretraining.lr"),
        ({"image_generator": {"channels": []}}, "image_generator.channels"),
        ({"image_generator": {"silence": 1.0}}, "image_generator.silence"),
        ({"image_generator": {"guidance": 0.5}}, "image_generator.guidance"),
        ({"size": 3}, "size"),
    ],
)
def test_invalid_settings_are_refused_by_key(keys: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SmallBackendConfig.model_validate(keys)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == key
