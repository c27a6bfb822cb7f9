"""A site's pictures and models together."""

from __future__ import annotations

import pytest

from fednet.api import NullProgress, SiteContext
from fednet.errors import MethodError
from fednet.methods.novelty.site_models import NoveltyModels


@pytest.fixture
def bench(small_config, pictures, tmp_path) -> NoveltyModels:
    return NoveltyModels(small_config(), SiteContext("a1", 0, 2, 0, "cpu", tmp_path), pictures(0, 1))


def test_rounds_before_decide_how_the_average_follows(bench) -> None:
    assert bench.lesson({}, 1).budget.rounds == 0
    assert bench.lesson({}, 5).budget.rounds == 4
    assert bench.lesson({}, 0).budget.rounds == 0


def test_what_was_taught_is_remembered(bench) -> None:
    bench.train_copy("classifier", bench.lesson({"labels": "1"}, 0), fresh=False, progress=NullProgress())
    assert bench.taught == {"classifier": ((1,), 12)}


def test_a_checkpoint_is_named_after_what_it_holds(bench) -> None:
    paths = {
        bench.checkpoint(bench.lesson(options, number))
        for options, number in (({"labels": "0"}, 0), ({"labels": "1"}, 0), ({"labels": "0", "steps": 9}, 0), ({}, 1))
    }
    assert len(paths) == 4
    assert all(path.name.startswith("a1-own-detector-") for path in paths)


def test_models_have_names(bench) -> None:
    for name in ("classifier", "detector", "own-detector"):
        assert bench.learner(name) is not None
    with pytest.raises(MethodError, match="has the models"):
        bench.learner("judge")
