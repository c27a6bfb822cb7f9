"""A site replaces keys of a section, or by another kind the whole section."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from fednet.data.config import DataConfig
from fednet.errors import ModelError
from fednet.methods.site_config import merged, site_section
from fednet.models.config import ScoreModelConfig, UNetConfig


class Config(BaseModel):
    data: DataConfig = DataConfig()
    model: ScoreModelConfig = UNetConfig(conditional=True)


def test_keys_are_replaced_within_a_kind_and_the_whole_by_another() -> None:
    common = UNetConfig(conditional=True)
    assert merged(common, {"layers": 2}) == {**common.model_dump(mode="json"), "layers": 2}
    assert merged(common, {"kind": "unet", "layers": 2})["conditional"] is True
    assert merged(common, {"kind": "diffusers", "path": "x"}) == {"kind": "diffusers", "path": "x"}
    assert merged(DataConfig(), {"limit": 3})["limit"] == 3


def test_a_section_of_a_configuration() -> None:
    config = Config()
    assert site_section(config, "model", None) is config
    changed = site_section(config, "model", {"layers": 3})
    assert changed.model == UNetConfig(conditional=True, layers=3)
    assert changed.data is config.data
    with pytest.raises(ModelError, match="invalid model of a site"):
        site_section(config, "model", {"kind": "energy"})
