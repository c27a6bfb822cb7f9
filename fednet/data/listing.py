"""A list of images by class, before any of them is read: files, or items of a data set that holds them itself.

What a folder, a table, a folder of `datasets` and a Python data set have in common: from it images are counted,
inspected, left out where they cannot be read, and shown. Reads no image and knows no source.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fednet.data.classes import sorted_classes
from fednet.errors import DataError
from fednet.text import plain_text

PARTS = ("train", "test")
"""The splits that are read; images of others are counted."""


@dataclass(frozen=True)
class ImageItem:
    """An image that is no file of its own.

    Attributes:
        name: what it is called in messages; no two of a listing have the same.
        load: gives the bytes of an image file, or its pixels: (h, w), (h, w, c) or (c, h, w).
    """

    name: str
    load: Callable[[], bytes | NDArray[np.generic]] = field(repr=False)

    def __str__(self) -> str:
        return self.name


ImageRef = Path | ImageItem
"""An image that is not read yet; `str` gives its name."""


@dataclass(frozen=True)
class ImageListing:
    """Images of one part of a data set.

    Attributes:
        by_class: those of each class, by the class's name; classes in order.
        unsorted: those without a class.
        empty: the names of the classes of which there is no image.
        others: how much is left out without being looked at, by kind: files that are no images, by ending.
    """

    by_class: Mapping[str, tuple[ImageRef, ...]]
    unsorted: tuple[ImageRef, ...]
    empty: tuple[str, ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, labelled: Iterable[tuple[ImageRef, str]], others: dict[str, int] | None = None) -> ImageListing:
        """A listing of images with the names of their classes; "" for none."""
        by_class, unsorted = dict[str, list[ImageRef]](), list[ImageRef]()
        for image, name in labelled:
            (by_class.setdefault(name, []) if name else unsorted).append(image)
        ordered = {name: tuple(by_class[name]) for name in sorted_classes(by_class)}
        return cls(ordered, tuple(unsorted), (), others or {})

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that have images."""
        return tuple(self.by_class)

    @property
    def labelled(self) -> list[tuple[ImageRef, int]]:
        """Every image of a class with its label, a position in `classes`; where there are no classes all, with -1."""
        if not self.by_class:
            return [(image, -1) for image in self.unsorted]
        return [(image, label) for label, images in enumerate(self.by_class.values()) for image in images]

    def without(self, left_out: Iterable[str]) -> ImageListing:
        """The listing without some images, by name; a class of which none stays is empty."""
        gone = frozenset(left_out)
        kept = {name: tuple(one for one in images if str(one) not in gone) for name, images in self.by_class.items()}
        return replace(
            self,
            by_class={name: images for name, images in kept.items() if images},
            unsorted=tuple(one for one in self.unsorted if str(one) not in gone),
            empty=(*self.empty, *(name for name, images in kept.items() if not images)),
        )


def split_listings(parts: Mapping[str, Iterable[tuple[ImageRef, str]]], where: str) -> dict[str, ImageListing]:
    """The listings of a data set's parts: `train` and `test`, or `all`.

    Args:
        parts: images with the names of their classes, by split; "" where there are no splits.
        where: the data set, for messages.

    Raises:
        DataError: there is nothing to train on.
    """
    listed = {split: list(images) for split, images in parts.items()}
    counts = Counter({f"split {plain_text(split)}": len(images) for split, images in listed.items()})
    used = PARTS if all(listed.get(split) for split in PARTS) else (("train",) if listed.get("train") else ("",))
    train, *test = used
    if not listed.get(train):
        there = ", ".join(repr(plain_text(split)) for split in listed if split) or "none"
        raise DataError(
            f"{where} holds no images to train on: the splits are {there}; expected train, and test or none"
        )
    others = {name: count for name, count in counts.items() if name not in {f"split {split}" for split in used}}
    first = ImageListing.of(listed[train], others)
    return {"train": first, "test": ImageListing.of(listed["test"])} if test else {"all": first}


def class_name(text: str) -> str:
    """The name of a class that somebody has written: in Unicode's composed form (NFC), in one line, nothing unseen."""
    return plain_text(unicodedata.normalize("NFC", text).strip())
