"""A site hands questions to what answers them, reads its pictures, and refuses what it is not ready for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fednet.api import ModelState, NullProgress, Progress, Question, RoundTask, SiteContext, Update
from fednet.data.config import DataConfig, PartitionConfig
from fednet.data.datasets import ImageSet
from fednet.errors import DataError, MethodError, ModelError
from fednet.federated.site_models import SiteModels
from fednet.methods.common.capabilities import ImageCapabilities
from fednet.methods.common.config import ImageConfig
from fednet.methods.common.site import ImageSite, QuestionHandlers, RoundModels


class Counted(ImageCapabilities):
    pictures: int


class CountingSite(RoundModels, ImageSite[ImageConfig, ImageSet]):
    """Answers how many pictures it has."""

    @property
    def states(self) -> SiteModels:
        return SiteModels(self.context.name, {"line": {"w": torch.zeros(2)}})

    def load(self, progress: Progress) -> ImageSet:
        return self.read_images(progress)

    def capabilities(self) -> Counted:
        return Counted(pictures=len(self.loaded), classes=self.classes, shape=self.loaded.shape)

    def handlers(self) -> QuestionHandlers:
        return {"count": self._count}

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        raise NotImplementedError

    def _count(self, _question: Question) -> Mapping[str, Tensor]:
        return {"count": torch.tensor([len(self.loaded)])}


def context(folder: Path) -> SiteContext:
    return SiteContext("a1", 0, 2, 0, "cpu", folder)


def few() -> ImageSet:
    return ImageSet(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 0]), ("a", "b"))


def test_a_prepared_site_says_what_it_has_and_answers(tmp_path: Path) -> None:
    site = CountingSite(ImageConfig(), context(tmp_path), few())
    assert json.loads(site.prepare(NullProgress())) == {
        "pictures": 3, "classes": ["a", "b"], "shape": [1, 8, 8], "own": True, "parts": {"train": 3},
        "permits": [], "disclosed": [],
    }  # fmt: skip
    assert site.answer(Question("count", {}))["count"].tolist() == [3]
    with pytest.raises(MethodError, match=r"^a1: unknown question 'else'; expected one of count$"):
        site.answer(Question("else", {}))


def test_a_site_that_is_not_prepared_says_so(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="a1 is not prepared: call prepare first"):
        CountingSite(ImageConfig(), context(tmp_path), few()).answer(Question("count", {}))


def test_pictures_are_a_share_of_the_runs_data_or_all_of_the_sites_own(tmp_path: Path) -> None:
    config = ImageConfig(data=DataConfig(limit=100))
    shared = CountingSite.from_overrides(config, context(tmp_path), {})
    own = CountingSite.from_overrides(config, context(tmp_path), {"data": {"limit": 50}})
    assert json.loads(shared.prepare(NullProgress()))["pictures"] < 100
    assert json.loads(own.prepare(NullProgress()))["pictures"] == 50
    with pytest.raises(DataError):
        CountingSite.from_overrides(config, context(tmp_path), {"data": {"name": "nope"}})


def test_a_site_knows_beforehand_what_it_will_train_on(tmp_path: Path) -> None:
    """What `fednet check` says is what a site says once it has read everything."""
    config = ImageConfig(data=DataConfig(limit=100), partition=PartitionConfig(kind="iid", train_ratio=0.75))
    for own in ({}, {"data": {"limit": 50}}):
        site = CountingSite.from_overrides(config, context(tmp_path), own)
        assert site.parts() == json.loads(site.prepare(NullProgress()))["parts"]
    assert CountingSite(config, context(tmp_path), few()).parts() == {"train": 3}


def test_models_of_rounds_are_checked_where_they_enter(tmp_path: Path) -> None:
    site = CountingSite(ImageConfig(), context(tmp_path), few())
    assert site.initial_state("line")["w"].tolist() == [0.0, 0.0]
    site.adopt("line", 1, {"w": torch.ones(2), "server/m": torch.ones(1)})
    with pytest.raises(ModelError, match="round 2 of line"):
        site.adopt("line", 2, {"w": torch.ones(3)})
    with pytest.raises(MethodError):
        site.initial_state("else")


def test_values_are_recorded_under_the_sites_name(tmp_path: Path) -> None:
    CountingSite(ImageConfig(), context(tmp_path), few()).record("gan", {"loss": 0.5}, 3)
    line = json.loads((tmp_path / "tensorboard/a1/scalars.jsonl").read_text())
    assert line == {"tag": "gan/loss", "step": 3, "value": 0.5}
