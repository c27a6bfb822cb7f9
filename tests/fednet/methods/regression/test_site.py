"""A site with points of a line: where they lie, what it contributes and answers, and what it refuses."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import NullProgress, Question, RoundTask, SiteContext
from fednet.errors import MethodError, ModelError
from fednet.federated.state import digest
from fednet.methods.regression.config import RegressionConfig
from fednet.methods.regression.site import LINE, REACH, TRAIN, RegressionSite


def sites(folder: Path, **keys: Any) -> list[RegressionSite]:
    config = RegressionConfig.model_validate(keys)
    return [RegressionSite(config, SiteContext(f"a{k + 1}", k, 5, 0, "cpu", folder)) for k in range(5)]


def test_no_two_sites_have_an_x_in_common(tmp_path: Path) -> None:
    ranges = [(float(one.x.min()), float(one.x.max())) for one in sites(tmp_path, spread=0.49)]
    assert all(high < low for (_, high), (low, _) in pairwise(ranges))


@pytest.mark.parametrize("count", [1, 3, 5, 40, 1000])
def test_points_lie_within_one_interval_however_many_sites_there_are(tmp_path: Path, count: int) -> None:
    """Five and fewer are 1 apart, as they always were."""
    config = RegressionConfig(spread=0.49, examples=4)
    made = [RegressionSite(config, SiteContext(f"a{k}", k, count, 0, "cpu", tmp_path)) for k in range(count)]
    assert all(float(site.x.abs().max()) < REACH + 0.5 for site in made)
    assert all(float(low.x.max()) < float(high.x.min()) for low, high in pairwise(made))


def test_capabilities_say_where_the_points_lie(tmp_path: Path) -> None:
    middle = sites(tmp_path, examples=3)[2]
    capabilities = json.loads(middle.prepare(NullProgress()))
    assert capabilities["points"] == 3
    assert -0.05 <= capabilities["from"] < capabilities["to"] <= 0.05


def test_a_contribution_is_trained_from_the_base_and_adopts_nothing(tmp_path: Path) -> None:
    site = sites(tmp_path)[0]
    base = site.initial_state(LINE)
    update = site.contribute(RoundTask(LINE, TRAIN, 1), base, NullProgress())
    again = site.contribute(RoundTask(LINE, TRAIN, 1), base, NullProgress())
    assert update.weight == 16.0
    assert digest(update.state) == digest(again.state) != digest(base)
    assert digest(site.states.current_state(LINE)) == digest(base)
    site.adopt(LINE, 1, update.state)
    assert digest(site.states.current_state(LINE)) == digest(update.state)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    one = sites(tmp_path)[0]
    with pytest.raises(MethodError, match="unknown question 'else'; expected one of predict"):
        one.answer(Question("else", {"x": torch.zeros(1, 1)}))
    with pytest.raises(MethodError, match="x must be float32"):
        one.answer(Question("predict", {"x": torch.zeros(3)}))
    with pytest.raises(MethodError, match="option alone must be a whole number from 0"):
        one.answer(Question("predict", {"x": torch.zeros(1, 1)}, {"alone": -1}))
    with pytest.raises(MethodError, match=r"unknown model .*expected one of line"):
        one.initial_state("else")
    with pytest.raises(MethodError, match="unknown task 'else'; expected one of train"):
        one.contribute(RoundTask(LINE, "else", 1), one.initial_state(LINE), NullProgress())
    with pytest.raises(ModelError):
        one.adopt(LINE, 1, {"x": torch.zeros(1)})
    wild = RegressionSite(RegressionConfig(lr=50.0, steps=200), one.context)
    with pytest.raises(MethodError, match="lower lr"):
        wild.contribute(RoundTask(LINE, "train", 1), wild.initial_state(LINE), NullProgress())
