"""Labelled images in three splits: for training the sites, for training the judge, and as reference of the metrics.

Every process that loads the same configuration gets the same images in the same order: the order comes from a fixed
stratified shuffle, not from the run's seed. Files are read by `fednet.data.sources`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.data import registry
from fednet.data.config import DataConfig
from fednet.data.pools import ImagePool
from fednet.errors import DataError
from fednet.seeds import generator

JUDGE_FRACTION = TEST_FRACTION = 0.2
"""Of a data set without a test split of its own."""


@dataclass(frozen=True)
class ImageSet:
    """Labelled pictures.

    Attributes:
        images: float32 (n, c, h, w) in [-1, 1].
        labels: int64 (n,), positions in `classes`.
        classes: the classes' names.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one picture."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def subset(self, indices: Tensor) -> ImageSet:
        """The pictures at `indices` (int64 (m,)), copied, so that the rest can be forgotten."""
        return ImageSet(self.images[indices], self.labels[indices], self.classes)

    def histogram(self) -> tuple[int, ...]:
        """How many pictures of each class, in class order."""
        return tuple(torch.bincount(self.labels, minlength=len(self.classes)).tolist())


@dataclass(frozen=True)
class Splits:
    """Pictures to train agents on, to train the judge on, and to compare samples with; no overlap."""

    train: ImageSet
    judge: ImageSet
    test: ImageSet


def require(config: DataConfig) -> None:
    """Checks that the data set is where the configuration says, without reading its pictures.

    Raises:
        DataError: it is missing or malformed.
    """
    _plan(config)


def load(config: DataConfig) -> Splits:
    """Loads a data set: the same pictures in the same order every time.

    A data set with a test split of its own (MNIST, CIFAR, Tiny ImageNet, a folder with train/ and test/) keeps
    its training pictures, and the two halves of its test pictures become judge and test. Any other is cut into
    three fifths, one fifth and one fifth (digits: 1077, 360, 360). `limit` takes the first pictures of each.

    Raises:
        DataError: it is missing, malformed or does not fit the configuration.
    """
    train, judge, test = (_read(pool, order, name) for name, (pool, order) in _plan(config).items())
    if len({train.shape, judge.shape, test.shape}) != 1:
        raise DataError(
            f"{config.name}: pictures are {train.shape} in train, {judge.shape} in judge, {test.shape} in test "
            "(channels, height, width): set data.size to bring all to one size"
        )
    return Splits(train, judge, test)


def training_share(config: DataConfig, choose: Callable[[Tensor], Tensor]) -> ImageSet:
    """Reads a part of the training pictures and nothing else: an agent never sees what is not its own.

    Args:
        config: which data set.
        choose: labels of the training split, int64 (n,) -> positions of the chosen pictures, int64 (m,), m > 0.

    Returns:
        What `load(config).train.subset(choose(load(config).train.labels))` is.

    Raises:
        DataError: the data set is missing, malformed or does not fit the configuration.
    """
    pool, order = _plan(config)["train"]
    return _read(pool, order[choose(pool.labels[order])], "train")


def stratified(labels: Tensor, *purpose: str) -> Tensor:
    """A fixed shuffle of the indices in which every stretch holds the classes in their own proportions.

    Each class is shuffled, its k-th of m pictures is placed at (k + 1/2) / m, and all are sorted by place.
    """
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in range(int(labels.max()) + 1):
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator(0, "split", *purpose, label))
        place[members[order]] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return place.argsort(stable=True)


def _plan(config: DataConfig) -> dict[str, tuple[ImagePool, Tensor]]:
    """Which pool each split is read from, and which of its pictures in which order."""
    source = registry.find(config.name).read(config)
    order = stratified(source.train.labels, config.name, "train")
    if source.test is None:
        judge, test = (math.ceil(part * len(order)) for part in (JUDGE_FRACTION, TEST_FRACTION))
        parts = order.tensor_split([len(order) - judge - test, len(order) - test])
        plan = {name: (source.train, part) for name, part in zip(("train", "judge", "test"), parts, strict=True)}
    else:
        held_out = stratified(source.test.labels, config.name, "test").tensor_split(2)
        plan = {
            "train": (source.train, order),
            "judge": (source.test, held_out[0]),
            "test": (source.test, held_out[1]),
        }
    plan = {name: (pool, part[: config.limit]) for name, (pool, part) in plan.items()}
    for name, (pool, part) in plan.items():
        _every_class(config, name, pool, part)
    return plan


def _every_class(config: DataConfig, split: str, pool: ImagePool, part: Tensor) -> None:
    missing = sorted(set(range(len(pool.classes))) - set(pool.labels[part].tolist()))
    if missing:
        limit = f" under data.limit={config.limit}" if config.limit else ""
        raise DataError(
            f"{config.name}: the {split} split has {len(part)} pictures{limit} and none of class "
            f"'{pool.classes[missing[0]]}' ({len(missing)} of {len(pool.classes)} classes are missing): "
            "every split needs every class; give more pictures or raise data.limit"
        )


def _read(pool: ImagePool, order: Tensor, split: str) -> ImageSet:
    images = pool.read(order)
    if not images.isfinite().all() or images.min() < -1 or images.max() > 1:
        raise DataError(f"the {split} split was read with values outside of [-1, 1]: this is a fault of fednet")
    return ImageSet(images.contiguous(), pool.labels[order].clone(), pool.classes)
