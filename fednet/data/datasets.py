"""Images to train on, and, where something is measured, to train the judge with and to compare samples with.

Every process that loads the same configuration gets the same images in the same order: the order comes from a fixed
stratified shuffle, not from the run's seed. Files are read by `fednet.data.sources`.
`fednet.data.outline` says what there is before any is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.data import registry
from fednet.data.config import DataConfig, HeldOut
from fednet.data.contract import DataOutline
from fednet.data.pools import ImagePool, renumbered
from fednet.errors import DataError
from fednet.seeds import generator

Choose = Callable[[Tensor, tuple[str, ...]], Tensor]
"""Chooses pictures: labels int64 (n,) and the classes' names -> positions int64 (m,), m > 0."""


@dataclass(frozen=True)
class ImageSet:
    """Pictures, with labels or without.

    Attributes:
        images: float32 (n, c, h, w) in [-1, 1].
        labels: int64 (n,), positions in `classes`; -1 for a picture without a label.
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

    def under(self, classes: Sequence[str]) -> ImageSet:
        """The same pictures with labels as positions in `classes`; of a class that is not there they lose theirs."""
        return ImageSet(self.images, renumbered(self.labels, self.classes, classes), tuple(classes))

    def digest(self) -> str:
        """SHA-256 of the pictures, their labels and the classes' names, as hexadecimal digits."""
        content = hashlib.sha256(json.dumps([*self.images.shape, self.classes]).encode())
        for tensor in (self.labels, self.images):
            content.update(tensor.contiguous().numpy().tobytes())
        return content.hexdigest()

    def outline(self) -> DataOutline:
        """What can be said of them; of pictures without a label no classes."""
        classes = self.classes if bool((self.labels >= 0).any()) else ()
        return DataOutline(classes, self.shape, class_counts(self.labels))

    def histogram(self) -> tuple[int, ...]:
        """How many pictures of each class, in class order; pictures without a label are not counted."""
        return tuple(torch.bincount(self.labels[self.labels >= 0], minlength=len(self.classes)).tolist())


def class_counts(labels: Tensor) -> tuple[int, ...]:
    """How many pictures there are of each class that labels int64 (n,) name, and of those without a label (-1)."""
    return tuple(Counter(labels.tolist()).values())


@dataclass(frozen=True)
class Splits:
    """Pictures to train agents on, to train the judge on, and to compare samples with; no overlap."""

    train: ImageSet
    judge: ImageSet
    test: ImageSet


def outline_of_pools(config: DataConfig) -> DataOutline:
    """What a data set holds that has no list of images; see `fednet.data.outline`.

    Raises:
        DataError: it is missing, malformed or does not fit the configuration.
    """
    pool, order = _plan(config, None)["train"]
    one = _read(pool, order[:1], "train")
    return DataOutline(one.classes, one.shape, class_counts(pool.labels[order]))


def load(config: DataConfig, held_out: HeldOut | None = None) -> Splits:
    """Loads a data set in three splits: the same pictures in the same order every time.

    A data set with a test split of its own (MNIST, CIFAR, Tiny ImageNet, a folder with train/ and test/) keeps
    its training pictures, and the two halves of its test pictures become judge and test. Any other is cut as `held_out`
    says, by default into three fifths, one fifth and one fifth (digits: 1077, 360, 360). `limit` takes the first
    pictures of each.

    Raises:
        DataError: it is missing, malformed or does not fit the configuration.
    """
    plan = _plan(config, held_out or HeldOut())
    train, judge, test = (_read(pool, order, name) for name, (pool, order) in plan.items())
    if len({train.shape, judge.shape, test.shape}) != 1:
        raise DataError(
            f"{config.name}: pictures are {train.shape} in train, {judge.shape} in judge, {test.shape} in test "
            "(channels, height, width): set data.size to bring all to one size"
        )
    return Splits(train, judge, test)


def training_images(config: DataConfig, choose: Choose | None = None, held_out: HeldOut | None = None) -> ImageSet:
    """Reads a part of the training pictures and nothing else: a site never sees what is not its own.

    Args:
        config: which data set.
        choose: chooses the part; None for all of them.
        held_out: what is kept for measures; None for nothing.

    Raises:
        DataError: the data set is missing, malformed or does not fit the configuration.
    """
    pool, order = _chosen(config, choose, held_out)
    return _read(pool, order, "train")


def training_labels(config: DataConfig, choose: Choose | None = None, held_out: HeldOut | None = None) -> Tensor:
    """The labels int64 (n,) of what `training_images` would read, in the same order; reads no picture.

    Raises:
        DataError: as there.
    """
    pool, order = _chosen(config, choose, held_out)
    return pool.labels[order]


def measuring_sizes(config: DataConfig, held_out: HeldOut) -> dict[str, int]:
    """How many pictures `load` would give the judge and the test; reads no picture.

    Raises:
        DataError: the data set is missing or malformed, or there are too few.
    """
    return {name: len(order) for name, (_, order) in _plan(config, held_out).items() if name != "train"}


def stratified(labels: Tensor, *purpose: str) -> Tensor:
    """A fixed shuffle of the indices in which every stretch holds the classes in their own proportions.

    Each class is shuffled, its k-th of m pictures is placed at (k + 1/2) / m, and all are sorted by place.
    """
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator(0, "split", *purpose, label))
        place[members[order]] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return place.argsort(stable=True)


def _plan(config: DataConfig, held_out: HeldOut | None) -> dict[str, tuple[ImagePool, Tensor]]:
    """Which pool each split is read from, and which of its pictures in which order; training alone without a cut."""
    source = registry.find(config.name).read(config)
    train, test = source.train.renamed(config.aliases), source.test and source.test.renamed(config.aliases)
    order = stratified(train.labels, config.name, "train")
    plan = {"train": (train, order)}
    if held_out is not None and test is not None:
        halves = stratified(test.labels, config.name, "test").tensor_split(2)
        plan |= {"judge": (test, halves[0]), "test": (test, halves[1])}
    elif held_out is not None:
        parts = _cut(order, held_out)
        plan = {name: (train, part) for name, part in zip(("train", "judge", "test"), parts, strict=True)}
    plan = {name: (pool, part[: config.limit]) for name, (pool, part) in plan.items()}
    if empty := [name for name, (_, part) in plan.items() if len(part) == 0]:
        raise DataError(
            f"{config.name}: {len(order)} pictures are too few for a part to train on, one for the judge and one to "
            f"compare with ({empty[0]} is empty): give more, measure with other data (measure.data), or set "
            "measure: null"
        )
    return plan


def _chosen(config: DataConfig, choose: Choose | None, held_out: HeldOut | None) -> tuple[ImagePool, Tensor]:
    """The pool of the training pictures, and which of them are chosen."""
    pool, order = _plan(config, held_out)["train"]
    return pool, order if choose is None else order[choose(pool.labels[order], pool.classes)]


def _cut(order: Tensor, held_out: HeldOut) -> tuple[Tensor, ...]:
    """Train, judge and test of a data set without a test split of its own."""
    judge, test = (math.ceil(part * len(order)) for part in (held_out.judge, held_out.test))
    train = max(0, len(order) - judge - test)
    return order[:train], order[train : train + judge], order[train + judge :]


def _read(pool: ImagePool, order: Tensor, split: str) -> ImageSet:
    images = pool.read(order)
    if not images.isfinite().all() or images.min() < -1 or images.max() > 1:
        raise DataError(f"the {split} split was read with values outside of [-1, 1]: this is a fault of fednet")
    return ImageSet(images.contiguous(), pool.labels[order].clone(), pool.classes)
