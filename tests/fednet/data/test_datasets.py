"""Splits do not overlap, come in the same order every time, and hold the classes in their own proportions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from fednet.data import datasets
from fednet.data.config import DataConfig
from fednet.data.datasets import ImageSet, load, require, stratified, training_share
from fednet.data.pools import ImagePool
from fednet.errors import DataError


def test_digits_are_cut_in_three_without_overlap() -> None:
    splits = load(DataConfig())
    parts = (splits.train, splits.judge, splits.test)
    assert [len(part) for part in parts] == [1077, 360, 360]
    assert splits.train.shape == (1, 8, 8)
    assert splits.train.classes == tuple("0123456789")
    for part in parts:
        assert part.images.dtype == torch.float32
        assert part.labels.dtype == torch.int64
        assert part.images.min() == -1
        assert part.images.max() == 1
        assert max(part.histogram()) - min(part.histogram()) <= 7
    everything = torch.cat([part.images.flatten(1) for part in parts])
    assert len({tuple(row) for row in everything.tolist()}) == 1797


def test_every_load_gives_the_same() -> None:
    first, again = load(DataConfig()), load(DataConfig())
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.test.labels, again.test.labels)


def test_a_limit_takes_the_first_of_each_split_and_keeps_the_balance() -> None:
    whole, some = load(DataConfig()), load(DataConfig(limit=50))
    assert torch.equal(some.judge.images, whole.judge.images[:50])
    assert all(4 <= count <= 6 for count in some.train.histogram())


def test_a_size_resizes_and_stays_in_range() -> None:
    splits = load(DataConfig(size=12, limit=20))
    assert splits.test.shape == (1, 12, 12)
    assert splits.test.images.abs().max() <= 1


def test_a_limit_below_the_classes_is_refused() -> None:
    with pytest.raises(DataError, match=r"3 pictures under data.limit=3 and none of class"):
        load(DataConfig(limit=3))


def test_every_stretch_is_balanced() -> None:
    labels = torch.tensor([0] * 300 + [1] * 100)
    order = stratified(labels, "here")
    assert torch.equal(order.sort().values, torch.arange(400))
    for start in range(0, 400, 40):
        assert int(labels[order[start : start + 40]].sum()) in (9, 10, 11)
    assert not torch.equal(order, stratified(labels, "elsewhere"))


def test_a_subset_is_a_copy() -> None:
    whole = ImageSet(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 1, 2]), ("a", "b", "c", "d"))
    part = whole.subset(torch.tensor([1, 2]))
    part.images.fill_(1.0)
    assert not whole.images.any()
    assert part.histogram() == (0, 2, 0, 0)


def test_require_says_what_is_missing_without_reading(tmp_path: Path) -> None:
    require(DataConfig())
    with pytest.raises(DataError, match="nothing is downloaded"):
        require(DataConfig(name="mnist", root=tmp_path / "nowhere"))


def test_splits_of_different_sizes_are_refused(tmp_path: Path) -> None:
    for split, side in (("train", 8), ("test", 10)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(4):
                Image.new("L", (side, side), index).save(tmp_path / split / name / f"{index}.png")
    with pytest.raises(DataError, match=r"set data\.size"):
        load(DataConfig(name="folder", root=tmp_path))
    assert load(DataConfig(name="folder", root=tmp_path, size=8)).test.shape == (1, 8, 8)


def test_a_share_is_that_part_of_the_training_split_and_nothing_else_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    config, read = DataConfig(limit=200), list[int]()
    train = load(config).train

    def counted(pool: ImagePool, order: Tensor, _split: str) -> Tensor:
        read.append(len(order))
        return pool.read(order)

    monkeypatch.setattr(datasets, "_read", counted)
    chosen = torch.tensor([3, 5, 150])
    images = training_share(config, lambda labels: chosen[labels[chosen] >= 0])
    assert torch.equal(images, train.images[chosen])  # type: ignore[arg-type]
    assert read == [3]
