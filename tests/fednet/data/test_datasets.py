"""Splits do not overlap, come in the same order every time, and hold the classes in their own proportions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from fednet.data import datasets
from fednet.data.config import DataConfig, HeldOut
from fednet.data.datasets import (
    ImageSet,
    load,
    measuring_sizes,
    stratified,
    training_images,
    training_labels,
)
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


def test_a_limit_below_the_classes_leaves_some_classes_without_pictures() -> None:
    assert [sum(part.histogram()) for part in vars(load(DataConfig(limit=3))).values()] == [3, 3, 3]


def test_what_is_held_out_is_configured() -> None:
    splits = load(DataConfig(), HeldOut(judge=0.1, test=0.3))
    assert [len(part) for part in vars(splits).values()] == [1077, 180, 540]


def pictures(root: Path, count: int, side: int = 8) -> None:
    root.mkdir(parents=True)
    for index in range(count):
        Image.new("L", (side, side), 10 * index).save(root / f"{index}.png")


def test_a_class_with_one_picture_ends_no_run(tmp_path: Path) -> None:
    pictures(tmp_path / "many", 8)
    pictures(tmp_path / "one", 1)
    config = DataConfig(name="folder", root=tmp_path)
    assert training_images(config).histogram() == (8, 1)
    splits = load(config)
    assert splits.train.histogram()[1] == 1, "the only picture is trained on"
    assert splits.test.histogram() == (2, 0)


def test_too_few_pictures_for_three_parts_are_refused_and_all_can_be_trained_on(tmp_path: Path) -> None:
    pictures(tmp_path / "a", 2)
    config = DataConfig(name="folder", root=tmp_path)
    assert len(training_images(config)) == 2
    with pytest.raises(DataError, match=r"2 pictures are too few .* measure: null"):
        load(config)


def test_pictures_without_labels(tmp_path: Path) -> None:
    pictures(tmp_path / "flat", 5)
    config = DataConfig(name="folder", root=tmp_path / "flat")
    there = training_images(config)
    assert (there.labels.tolist(), there.classes, there.histogram()) == ([-1] * 5, (), ())
    assert there.under(("a", "b")).labels.tolist() == [-1] * 5


def test_labels_follow_the_names(tmp_path: Path) -> None:
    whole = ImageSet(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 1, -1]), ("b", "c"))
    moved = whole.under(("a", "b", "c"))
    assert moved.labels.tolist() == [1, 2, 2, -1]
    assert moved.histogram() == (0, 1, 2)
    assert moved.under(("a", "b")).labels.tolist() == [1, -1, -1, -1]


def test_aliases_rename_classes_and_make_two_one(tmp_path: Path) -> None:
    for name in ("chat", "cat", "hund"):
        pictures(tmp_path / name, 3)
    config = DataConfig(name="folder", root=tmp_path, aliases={"chat": "cat", "hund": "dog", "nobody": "x"})
    assert training_images(config).histogram() == (6, 3)


def test_a_digest_is_that_of_pictures_and_labels() -> None:
    one = ImageSet(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), ("a", "b"))
    assert one.digest() == one.subset(torch.tensor([0, 1])).digest()
    others = (
        one.subset(torch.tensor([1, 0])),
        one.under(("b", "a")),
        ImageSet(one.images + 1, one.labels, one.classes),
    )
    assert len({one.digest(), *(other.digest() for other in others)}) == 4


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
    images = training_images(config, lambda labels, _: chosen[labels[chosen] >= 0], HeldOut())
    assert torch.equal(images, train.images[chosen])  # type: ignore[arg-type]
    assert read == [3]
    labels = training_labels(config, lambda labels, _: chosen[labels[chosen] >= 0], HeldOut())
    assert torch.equal(labels, train.labels[chosen])
    assert read == [3]
    assert measuring_sizes(config, HeldOut()) == {"judge": 200, "test": 200}
