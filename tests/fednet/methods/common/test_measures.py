"""Samples are measured with pictures of the asker's choice, with those held out of the run's data, or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from fednet.data.config import DataConfig
from fednet.errors import DataError
from fednet.methods.common.agreement import DataAnnouncement
from fednet.methods.common.capabilities import ImageCapabilities
from fednet.methods.common.config import ImageConfig, MeasureConfig
from fednet.methods.common.measures import (
    SWITCHED_OFF,
    UNMEASURED,
    measuring_data,
    measuring_judge,
    measuring_parts,
    measuring_splits,
    require_measurable,
    unmeasured,
)

DIGITS = DataConfig(limit=40)
SITE = ImageCapabilities(classes=("3", "eleven"), shape=(1, 8, 8), own=True)


def test_the_run_s_data_measures_where_a_site_has_a_share_of_it() -> None:
    config = ImageConfig(data=DIGITS)
    assert measuring_data(config, {"a": True, "b": False}) == DIGITS
    assert measuring_data(config, {"a": True, "b": True}) is None
    assert measuring_data(config.model_copy(update={"measure": None}), {"a": False}) is None
    assert [unmeasured(one) for one in (config, ImageConfig(measure=None))] == [UNMEASURED, SWITCHED_OFF]


def test_what_will_measure_is_counted_beforehand() -> None:
    config = ImageConfig(data=DIGITS)
    splits = measuring_splits(config, {"a": SITE.model_copy(update={"own": False})})
    assert splits is not None
    assert measuring_parts(config, {"a": False}) == {"judge": len(splits.judge), "test": len(splits.test)}
    assert measuring_parts(config, {"a": True}) == {}


def test_what_is_held_out_follows_from_what_measures() -> None:
    assert ImageConfig().held_out_of_run is not None
    assert ImageConfig(measure=None).held_out_of_run is None
    assert ImageConfig(measure=MeasureConfig(data=DIGITS)).held_out_of_run is None


def test_the_judge_trains_for_as_long_as_the_configuration_says() -> None:
    config = ImageConfig(measure=MeasureConfig(data=DIGITS, judge_steps=2))
    splits = measuring_splits(config, {"a": SITE})
    assert splits is not None
    told: list[tuple[str, int, int]] = []
    progress = SimpleNamespace(report=lambda phase, done, total, **_: told.append((phase, done, total)))
    judge = measuring_judge(config, splits, seed=0, progress=progress)
    assert told == [("judge", 2, 2)]
    assert judge.classes == splits.judge.classes


def test_classes_of_the_run_come_first_and_others_after_them() -> None:
    splits = measuring_splits(ImageConfig(measure=MeasureConfig(data=DIGITS)), {"a": SITE})
    assert splits is not None
    assert splits.test.classes == ("3", "eleven", "0", "1", "2", "4", "5", "6", "7", "8", "9")
    assert splits.test.histogram()[:2] == (4, 0)


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


def test_pictures_of_classes_that_no_site_has_can_be_left_out() -> None:
    config = ImageConfig(measure=MeasureConfig(data=DIGITS))
    splits = measuring_splits(config, {"a": SITE}, strange=False)
    assert splits is not None
    assert splits.test.classes == SITE.classes
    assert splits.test.histogram() == (4, 0)
    assert set(splits.judge.labels.tolist()) == {0}
    with pytest.raises(DataError, match=r"no pictures of the run's classes \(eleven\)"):
        measuring_splits(config, {"a": SITE.model_copy(update={"classes": ("eleven",)})}, strange=False)
