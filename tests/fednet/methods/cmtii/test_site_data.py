"""The split: public and private pictures do not overlap, and private ones are oriented differently."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fednet.api import SiteContext
from fednet.data.config import DataConfig, PartitionConfig
from fednet.data.datasets import load
from fednet.errors import DataError
from fednet.methods.cmtii.site_data import CmtiiDataSplit

DATA = DataConfig()
REGIME = PartitionConfig(kind="dirichlet", alpha=0.5, least=20, train_ratio=0.75)


def site(index: int, seed: int = 0) -> SiteContext:
    return SiteContext(f"a{index + 1}", index, 3, seed, "cpu", Path())


def keys(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_public_and_private_are_all_training_pictures() -> None:
    split, train = CmtiiDataSplit(DATA, 0.4), load(DATA).train
    parts = [split.site_data(REGIME, site(k)) for k in range(3)]
    private = torch.cat([images for part in parts for images in (part.train.images, part.test.images)])
    public = split.public_images().images
    assert len(public) + len(private) == len(train)
    assert keys(torch.cat([public, private.transpose(2, 3)])) == keys(train.images)


def test_a_site_trains_on_three_quarters() -> None:
    part = CmtiiDataSplit(DATA, 0.4).site_data(REGIME, site(1))
    whole = len(part.train) + len(part.test)
    assert len(part.train) == int(0.75 * whole)


def test_measures_lie_as_private_pictures_do() -> None:
    found, plain = CmtiiDataSplit(DATA, 0.4).oriented(load(DATA)), load(DATA)
    assert torch.equal(found.test.images, plain.test.images.transpose(2, 3))
    assert torch.equal(found.judge.images, plain.judge.images.transpose(2, 3))


def test_without_a_public_part_nothing_is_turned() -> None:
    split = CmtiiDataSplit(DATA, 0.0)
    assert torch.equal(split.oriented(load(DATA)).test.images, load(DATA).test.images)
    assert sum(len(split.site_data(REGIME, site(k)).train) for k in range(3)) > 0.7 * len(load(DATA).train)


def test_all_together_are_the_sum_of_the_sites() -> None:
    split = CmtiiDataSplit(DATA, 0.4)
    pooled = split.pooled(REGIME, 3, 0)
    assert len(pooled) == sum(len(split.site_data(REGIME, site(k)).train) for k in range(3))


def test_own_pictures_lie_as_the_measures_do() -> None:
    own = load(DATA).judge
    for public in (0.4, 0.0):
        split = CmtiiDataSplit(DATA, public)
        part = split.site_data(REGIME, site(0), own)
        assert keys(torch.cat([part.train.images, part.test.images])) == keys(split.oriented(load(DATA)).judge.images)


def test_a_public_part_leaves_something_on_both_sides() -> None:
    with pytest.raises(DataError, match=r"backend.public"):
        CmtiiDataSplit(DATA, 1e-4).public_images()
