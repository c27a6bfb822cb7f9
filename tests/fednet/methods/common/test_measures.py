"""Samples are measured with pictures of the asker's choice, with those held out of the run's data, or not at all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fednet.data.config import DataConfig
from fednet.errors import DataError
from fednet.methods.common.capabilities import ImageCapabilities
from fednet.methods.common.config import ImageConfig, MeasureConfig
from fednet.methods.common.measures import measuring_judge, measuring_splits
from fednet.methods.common.measuring_data import measuring_parts

DIGITS = DataConfig(limit=40)
SITE = ImageCapabilities(classes=("3", "eleven"), shape=(1, 8, 8), own=True)


def test_what_will_measure_is_counted_beforehand() -> None:
    config = ImageConfig(data=DIGITS)
    splits = measuring_splits(config, {"a": SITE.model_copy(update={"own": False})})
    assert splits is not None
    assert measuring_parts(config, {"a": False}) == {"judge": len(splits.judge), "test": len(splits.test)}
    assert measuring_parts(config, {"a": True}) == {}


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


def test_pictures_of_classes_that_no_site_has_can_be_left_out() -> None:
    config = ImageConfig(measure=MeasureConfig(data=DIGITS))
    splits = measuring_splits(config, {"a": SITE}, strange=False)
    assert splits is not None
    assert splits.test.classes == SITE.classes
    assert splits.test.histogram() == (4, 0)
    assert set(splits.judge.labels.tolist()) == {0}
    with pytest.raises(DataError, match=r"no pictures of the run's classes \(eleven\)"):
        measuring_splits(config, {"a": SITE.model_copy(update={"classes": ("eleven",)})}, strange=False)
