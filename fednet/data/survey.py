"""What a data set holds: images by class and part, and how each one is stored, converted or refused.

Of a data set that lists its images it imports no torch; `first_images.py` shows them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fednet.data import registry
from fednet.data.classes import sorted_classes
from fednet.data.config import DataConfig
from fednet.data.inspection import FileInspection, inspect_files
from fednet.data.listing import ImageListing

if TYPE_CHECKING:
    from fednet.data.pools import ImagePool


@dataclass(frozen=True)
class ListedImages:
    """The images of a folder, a table, or another data set that lists them.

    Attributes:
        inspection: how they are stored, and which cannot be read.
        listing: those that can be read, by part.
        others: how much is left out without being looked at, by kind: files that are no images, by ending.
        empty: the classes' folders that hold no image.
        unsorted: how many images belong to no class, where there are classes.
    """

    inspection: FileInspection
    listing: dict[str, ImageListing]
    others: Counter[str] = field(default_factory=Counter)
    empty: tuple[str, ...] = ()
    unsorted: int = 0


@dataclass(frozen=True)
class DataSurvey:
    """What a data set holds.

    Attributes:
        classes: the classes' names, by label; () where images have none.
        counts: images by class, by part (`all`, or `train` and `test`); those without a label under "".
        files: its images one by one, if it lists them.
    """

    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    files: ListedImages | None = None

    @property
    def total(self) -> int:
        """How many images can be read."""
        return sum(sum(counts.values()) for counts in self.counts.values())


def survey(config: DataConfig) -> DataSurvey:
    """Looks through a data set; of one that lists its images it reads every image.

    Raises:
        DataError: it is missing or malformed.
    """
    dataset = registry.find(config.name)
    if dataset.listings is not None:
        return _survey_listings(config, dataset.listings(config))
    source = dataset.read(config)
    pools = {"all": source.train} if source.test is None else {"train": source.train, "test": source.test}
    return DataSurvey(source.train.classes, {part: _count(pool) for part, pool in pools.items()})


def _survey_listings(config: DataConfig, listings: Mapping[str, ImageListing]) -> DataSurvey:
    inspection = inspect_files((path for one in listings.values() for path, _ in one.labelled), config)
    refused = [error.path for error in inspection.refused]
    readable = {part: listing.without(refused) for part, listing in listings.items()}
    counts = {part: _count_files(listing) for part, listing in readable.items()}
    files = ListedImages(
        inspection,
        readable,
        sum((Counter(listing.others) for listing in listings.values()), Counter()),
        tuple(dict.fromkeys(name for listing in listings.values() for name in listing.empty)),
        sum(len(listing.unsorted) for listing in listings.values() if listing.classes),
    )
    return DataSurvey(sorted_classes({name for part in counts.values() for name in part if name}), counts, files)


def _count_files(listing: ImageListing) -> dict[str, int]:
    if not listing.classes:
        return {"": len(listing.unsorted)} if listing.unsorted else {}
    return {name: len(paths) for name, paths in listing.by_class.items()}


def _count(pool: ImagePool) -> dict[str, int]:
    counts = Counter(pool.labels.tolist())
    return {name: counts[label] for label, name in enumerate(pool.classes)}
