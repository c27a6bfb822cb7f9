"""What can be set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fednet.errors import DataError, UnknownClass
from fednet.methods.novelty.config import NoveltyConfig, NoveltyPipelineConfig, check


def test_the_defaults_are_the_source_s_flow() -> None:
    flow = NoveltyConfig().flow
    assert (flow.first, flow.unseen) == ((0, 1, 2), (3, 4))
    assert flow.shares == ((0, 1, 2, 3), (0, 1, 2, 4))
    labels = flow.labels(tuple("0123456789"))
    assert labels.known() == labels.inside() == (0, 1, 2, 3, 4)
    check(NoveltyConfig())


def test_it_survives_json() -> None:
    config = NoveltyConfig.model_validate(
        {"federation": {"rule": {"kind": "median"}}, "detector": {"sde": {"kind": "sub-vp"}}}
    )
    assert NoveltyConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flow": {"first": [0], "unseen": [0, 1]}}, "share the classes"),
        ({"flow": {"shares": []}}, "at least 1"),
        ({"flow": {"first": [-1]}}, "greater than or equal to 0"),
        ({"detector": {"unet": {"conditional": True}}}, "network is unconditional"),
        ({"held_out": 1.0}, "less than 1"),
        ({"classifier": {"epochs": 1, "steps": 1}}, "not both"),
        ({"unknown": 1}, "Extra"),
    ],
)
def test_what_does_not_fit_is_refused(values: Any, message: Any) -> None:
    with pytest.raises(ValidationError, match=message):
        NoveltyConfig.model_validate(values)


def test_missing_data_and_checkpoints_are_found_early(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        check(NoveltyConfig(), {"data": {"name": "mnist", "root": str(tmp_path / "nowhere")}})
    with pytest.raises(DataError, match=r"detector\.checkpoint"):
        check(NoveltyConfig.model_validate({"detector": {"checkpoint": str(tmp_path / "nothing")}}))


def test_lists_are_joined() -> None:
    flow = NoveltyPipelineConfig(shares=((4, 2), (2, 7)))
    assert flow.labels(tuple("0123456789")).known() == (2, 4, 7)


def test_classes_are_named() -> None:
    flow = NoveltyPipelineConfig(first=("dog",), unseen=("cat",), shares=(("cat", "dog"),), belongs=(("owl",),))
    labels = flow.labels(("cat", "dog", "owl"))
    assert (labels.first, labels.unseen, labels.known(), labels.inside()) == ((1,), (0,), (0, 1), (2,))
    with pytest.raises(UnknownClass, match=r"flow.first names the class 'dog'; the classes are cat, owl"):
        flow.labels(("cat", "owl"))
