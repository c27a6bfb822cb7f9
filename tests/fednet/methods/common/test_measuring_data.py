"""Which pictures measure, and what they must be for it, is known before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fednet.data.config import DataConfig
from fednet.errors import DataError
from fednet.methods.common.agreement import DataAnnouncement
from fednet.methods.common.config import ImageConfig, MeasureConfig
from fednet.methods.common.measuring_data import (
    SWITCHED_OFF,
    UNMEASURED,
    measuring_data,
    require_measurable,
    unmeasured,
)

DIGITS = DataConfig(limit=40)


def test_the_run_s_data_measures_where_a_site_has_a_share_of_it() -> None:
    config = ImageConfig(data=DIGITS)
    assert measuring_data(config, {"a": True, "b": False}) == DIGITS
    assert measuring_data(config, {"a": True, "b": True}) is None
    assert measuring_data(config.model_copy(update={"measure": None}), {"a": False}) is None
    assert [unmeasured(one) for one in (config, ImageConfig(measure=None))] == [UNMEASURED, SWITCHED_OFF]


def test_what_is_held_out_follows_from_what_measures() -> None:
    assert ImageConfig().held_out_of_run is not None
    assert ImageConfig(measure=None).held_out_of_run is None
    assert ImageConfig(measure=MeasureConfig(data=DIGITS)).held_out_of_run is None


def test_what_does_not_fit_is_refused_before_anything_trains() -> None:
    site = DataAnnouncement(classes=("3",), shape=(3, 8, 8), own=True).model_dump_json()
    require_measurable(ImageConfig(), {"a": site})
    with pytest.raises(DataError, match="has pictures 1 x 8 x 8, a has 3 x 8 x 8"):
        require_measurable(ImageConfig(measure=MeasureConfig(data=DIGITS)), {"a": site})


def test_pictures_without_labels_measure_nothing(tmp_path: Path) -> None:
    """A judge was trained on the label -1, after everything else: an IndexError."""
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    config = ImageConfig(measure=MeasureConfig(data=DataConfig(name="folder", root=tmp_path)))
    site = DataAnnouncement(classes=("3",), shape=(1, 8, 8), own=True).model_dump_json()
    with pytest.raises(DataError, match="the data to measure with has no labels, and the judge learns from labels"):
        require_measurable(config, {"a": site})
