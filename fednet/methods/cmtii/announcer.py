"""What a site of the interchange of pseudo-words announces and agrees to, before it is loaded; imports no torch."""

from __future__ import annotations

from collections.abc import Collection

from fednet.data.classes import listed_classes
from fednet.data.outline import outline
from fednet.data.sizes import train_size
from fednet.errors import DataError, MethodError
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.common.announcer import ImageAnnouncer


class CmtiiAnnouncer(ImageAnnouncer[CmtiiConfig]):
    """One site before it is loaded (an `Announcer`)."""

    def embedded(self) -> bool:
        """Whether its models are those that are trained on the public part of the run's data."""
        return self.config.public > 0

    def labelled(self) -> str:
        """A pseudo-word is that of a class."""
        return "the method cmtii"

    def require_classes(self, classes: tuple[str, ...]) -> None:
        """Checks that the aliases name classes, and that the embedded models know all of them.

        Raises:
            MethodError: an alias names no class, or the models do not know a class.
        """
        if unknown := sorted(set(self.config.aliases.values()) - set(classes)):
            raise MethodError(f"aliases names {unknown[0]!r}, which is no class: there are {', '.join(classes)}")
        if self.embedded():
            public = outline(self.config.data).classes
            if unknown := [name for name in classes if name not in public]:
                raise DataError(
                    f"the embedded models know the classes of the run's data ({listed_classes(public)}), not "
                    f"{listed_classes(unknown)}: set data to a public data set with these classes, or backend to "
                    "{kind: pretrained, ...}"
                )

    def share_counts(self) -> tuple[int, ...]:
        """How many pictures of each class there are in the site's share of the private ones."""
        from fednet.methods.cmtii.site_data import CmtiiDataSplit  # noqa: PLC0415 - imports torch

        config = self.config
        return CmtiiDataSplit(config.data, config.public, config.held_out_of_run).share_counts(
            config.partition, self.context
        )

    def divided(self, counts: Collection[int]) -> dict[str, int]:
        """A site tests itself with what partition.train_ratio leaves."""
        pictures = sum(counts)
        trained = train_size(pictures, self.config.partition.train_ratio)
        return {"train": trained, "test": pictures - trained}
