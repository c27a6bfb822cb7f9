"""What a data set holds before its pictures are read: its classes, how many pictures, and the shape of one.

From its list of files, their headers and one picture. Imports no torch, unless a data set has no list: then its
pictures are opened by `fednet.data.datasets`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from fednet.data import registry
from fednet.data.classes import renamed_classes
from fednet.data.config import DataConfig
from fednet.data.contract import DataOutline
from fednet.data.image_files import decode, is_colour, telling_the_remedy
from fednet.data.inspection import inspect_files
from fednet.data.listing import ImageListing
from fednet.errors import DataError
from fednet.plugins import lazily

_log = logging.getLogger(__name__)
_opened = lazily("fednet.data.datasets:outline_of_pools")


@dataclass(frozen=True)
class OpenedListings:
    """The images of a data set that lists them: those that can be used.

    Attributes:
        config: how they are read.
        train: those to train on.
        test: of a data set with a test part of its own, that.
    """

    config: DataConfig
    train: ImageListing
    test: ImageListing | None = None

    @cached_property
    def channels(self) -> int:
        """1 or 3, as configured or as the headers of all files say: 3 if any image has colours.

        Raises:
            UnreadableImage: a header is damaged.
        """
        images = [image for part in (self.train, self.test) if part for image, _ in part.labelled]
        with telling_the_remedy():
            return self.config.channels or (3 if any(map(is_colour, images)) else 1)

    def outline(self) -> DataOutline:
        """What it holds, classes as they are called here; decodes one image.

        Raises:
            UnreadableImage: that image, or a header, is damaged.
        """
        config, (first, _) = self.config, self.train.labelled[0]
        with telling_the_remedy():
            shown = decode(first, background=config.background_value, limits=config.range).values.shape
        height, width = (config.size or side for side in shown[1:])
        counts = Counter[str]()
        for name, images in self.train.by_class.items():
            counts[config.aliases.get(name, name)] += len(images)
        known = tuple(counts.values()) or (len(self.train.unsorted),)
        return DataOutline(self.train.classes, (self.channels, height, width), None if config.limit else known)


def open_listings(config: DataConfig, listings: Mapping[str, ImageListing]) -> OpenedListings:
    """The images of listings: of all of a data set, or of its `train` and `test`; reads none, except for `skip`.

    Raises:
        DataError: a part holds no images, the parts hold different classes, or none can be read.
    """
    place = config.root or config.object
    for part, listing in listings.items():
        if not listing.labelled:
            expected = registry.find(config.name).summary
            raise DataError(f"{place} holds no images{'' if part == 'all' else f' in {part}'}; expected {expected}")
    train, *test = (readable(config, listing) for listing in listings.values())
    if test and (odd := sorted(set(train.classes) ^ set(test[0].classes))):
        raise DataError(f"{place}: train and test must hold the same classes; these are in one only: {odd[:10]}")
    return OpenedListings(config, train, *test)


def readable(config: DataConfig, listing: ImageListing) -> ImageListing:
    """The files of a listing; with `unreadable: skip` those that can be read.

    Raises:
        DataError: none of them can.
    """
    if config.unreadable == "refuse":
        return listing
    refused = inspect_files((image for image, _ in listing.labelled), config).refused
    if not refused:
        return listing
    _log.warning("%d of %d images are left out; the first: %s", len(refused), len(listing.labelled), refused[0])
    kept = listing.without(error.path for error in refused)
    if not (kept.classes if listing.classes else kept.unsorted):
        place = config.root or config.object
        raise DataError(f"{place}: none of {len(refused)} images can be read; the first: {refused[0]}")
    return kept


def outline(config: DataConfig) -> DataOutline:
    """What a data set holds.

    Raises:
        DataError: it is missing, malformed or does not fit the configuration.
    """
    dataset = registry.find(config.name)
    if dataset.outline is not None:
        found = dataset.outline(config)
    elif dataset.listings is not None:
        found = open_listings(config, dataset.listings(config)).outline()
    else:
        opened: DataOutline = _opened(config)
        return opened
    return replace(found, classes=renamed_classes(found.classes, config.aliases))


def require(config: DataConfig) -> None:
    """Checks that the data set is where the configuration says; of one with a list it reads no picture.

    Raises:
        DataError: it is missing or malformed.
    """
    dataset = registry.find(config.name)
    if dataset.listings is None:
        outline(config)
    else:
        open_listings(config.model_copy(update={"unreadable": "refuse"}), dataset.listings(config))
