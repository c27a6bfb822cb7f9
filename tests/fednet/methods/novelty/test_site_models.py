"""A site's pictures and models together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fednet.api import NullProgress, SiteContext
from fednet.errors import MethodError
from fednet.methods.novelty.site_models import NoveltyModels


@pytest.fixture
def models(small_config: Callable[..., Any], pictures: Callable[..., Any], tmp_path: Path) -> NoveltyModels:
    return NoveltyModels(small_config(), SiteContext("a1", 0, 2, 0, "cpu", tmp_path), pictures(0, 1))


def test_rounds_before_decide_how_the_average_follows(models: Any) -> None:
    assert models.training_task({}, 1).budget.rounds == 0
    assert models.training_task({}, 5).budget.rounds == 4
    assert models.training_task({}, 0).budget.rounds == 0


def test_what_was_taught_is_remembered(models: Any) -> None:
    models.train_copy("classifier", models.training_task({"labels": "1"}, 0), fresh=False, progress=NullProgress())
    assert models.trained == {"classifier": ((1,), 12)}


def test_a_checkpoint_is_named_after_what_it_holds(models: Any) -> None:
    paths = {
        models.checkpoint(models.training_task(options, number))
        for options, number in (({"labels": "0"}, 0), ({"labels": "1"}, 0), ({"labels": "0", "steps": 9}, 0), ({}, 1))
    }
    assert len(paths) == 4
    assert all(path.name.startswith("a1-own-detector-") for path in paths)


def test_models_have_names(models: Any) -> None:
    for name in ("classifier", "detector", "own-detector"):
        assert models.local(name) is not None
    with pytest.raises(MethodError, match="unknown model"):
        models.local("judge")
