"""The part of a site with pictures that comes first: what it announces and agrees to, and how its pictures are divided.

From lists of files. `ImageSite` is one, and so is what `fednet check` and a launch ask before anything starts: imports
no torch, nor may a method's own announcer, as long as no site takes a share of the run's data.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from fednet.api import SiteContext
from fednet.data.config import DataConfig
from fednet.data.contract import DataOutline
from fednet.data.outline import outline
from fednet.data.site_data import own_counts, own_data, run_counts
from fednet.methods.common.agreement import DataAnnouncement, agreed_classes, read_announcements
from fednet.methods.common.config import ImageConfig

if TYPE_CHECKING:
    from fednet.data.datasets import ImageSet

ImageConfigT = TypeVar("ImageConfigT", bound=ImageConfig)


class ImageAnnouncer(Generic[ImageConfigT]):
    """What a site with pictures announces and agrees to (an `Announcer`).

    Args:
        config: the run's configuration, the same at every site.
        context: where the site lives; decides its share of the data.
        own: its own pictures or data set, instead of its share of the run's.

    Attributes:
        classes: those of the run, once it has agreed.
    """

    def __init__(self, config: ImageConfigT, context: SiteContext, own: ImageSet | DataConfig | None = None) -> None:
        self.config, self.context, self.own = config, context, own
        self.classes: tuple[str, ...] = ()
        self.agreed = False

    @classmethod
    def from_overrides(
        cls, config: ImageConfigT, context: SiteContext, overrides: Mapping[str, object] | None = None
    ) -> Self:
        """As the launcher configures it.

        Args:
            config: the run's configuration.
            context: where the site lives.
            overrides: what cluster.yaml says for this site alone: `data`, keys that replace those of `config.data`.
                A site with data of its own keeps all of its training pictures.

        Raises:
            DataError: the site's own data is misconfigured.
        """
        return cls(config, context, own_data(config.data, overrides))

    def labelled(self) -> str:
        """What needs a label for every picture, as the subject of a sentence; empty where nothing does."""
        return ""

    def require_classes(self, classes: tuple[str, ...]) -> None:
        """Checks the run's classes against the configuration, before anything trains.

        Raises:
            MethodError: the configuration names a class that there is not, or there are too few.
        """

    def has_own_data(self) -> bool:
        """Whether its pictures are its own, and no share of the run's data."""
        return self.own is not None

    @cached_property
    def outline(self) -> DataOutline:
        """The classes and the shape of its pictures; reads one, and the list of files once.

        Raises:
            DataError: the data is missing or malformed.
        """
        if self.own is None or isinstance(self.own, DataConfig):
            return outline(self.own or self.config.data)
        return self.own.outline()

    def announce(self) -> str:
        """The names of its classes and the shape of its pictures, as JSON; reads one picture.

        Raises:
            DataError: the data is missing or malformed.
        """
        there = self.outline
        announced = DataAnnouncement(classes=there.classes, shape=there.shape, own=self.has_own_data())
        return announced.model_dump_json()

    def agree(self, announcements: Mapping[str, str]) -> None:
        """Takes over the run's classes, the union of all sites'.

        Raises:
            MethodError: the sites' pictures do not fit each other, the method or the configuration.
        """
        classes = agreed_classes(read_announcements(announcements), self.labelled())
        self.require_classes(classes)
        self.classes, self.agreed = classes, True

    def parts(self) -> dict[str, int]:
        """How many of the site's pictures will be used for what, before any is read.

        Raises:
            DataError: they are missing, or cannot be divided so.
        """
        if self.own is None:
            return self.divided(self.share_counts())
        counts = self.outline.counts
        if counts is None and isinstance(self.own, DataConfig):
            counts = own_counts(self.own)
        return self.divided(counts or ())

    def share_counts(self) -> tuple[int, ...]:
        """How many pictures of each class there are in the site's share of the run's data.

        Raises:
            DataError: the data is missing, or cannot be divided so.
        """
        return run_counts(self.config.data, self.config.partition, self.context, self.config.held_out_of_run)

    def divided(self, counts: Collection[int]) -> dict[str, int]:
        """How many of so many of each class are used for what: `train`, and what a method tests itself with."""
        return {"train": sum(counts)}
