"""Sections of a configuration are immutable and know their keys."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from fednet.methods.common.config import ConfigSection, ImageConfig


class Section(ConfigSection):
    lr: float = 0.1


def test_unknown_keys_infinities_and_changes_are_refused() -> None:
    with pytest.raises(ValidationError):
        Section.model_validate({"rl": 0.1})
    with pytest.raises(ValidationError):
        Section(lr=math.inf)
    with pytest.raises(ValidationError):
        Section().lr = 0.2  # type: ignore[misc]


def test_pictures_are_divided_evenly_by_default() -> None:
    assert ImageConfig().partition.kind == "homogeneous"
