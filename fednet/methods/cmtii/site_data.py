"""Divides the pictures: public ones, each site's own, and those that no site trains on.

The embedded models come from a public part of the run's training pictures, in many orientations but one; the sites
share the rest in that one orientation, as are the pictures that measure them. General models need no public part: then
the sites share all training pictures, as they are. Knows no model and no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fednet.api import SiteContext
from fednet.data.config import DataConfig, HeldOut, PartitionConfig
from fednet.data.datasets import Choose, ImageSet, Splits, class_counts, training_images, training_labels
from fednet.data.orientations import transposed
from fednet.data.site_data import chooser, local_parts
from fednet.errors import DataError


@dataclass(frozen=True)
class CmtiiSiteData:
    """The pictures of a site.

    Attributes:
        train: training pictures.
        test: pictures that it tests itself with; empty where partition.train_ratio is 1.
    """

    train: ImageSet
    test: ImageSet

    def under(self, classes: Sequence[str]) -> CmtiiSiteData:
        """The same pictures with labels as positions in `classes`."""
        return CmtiiSiteData(self.train.under(classes), self.test.under(classes))


@dataclass(frozen=True)
class CmtiiDataSplit:
    """How the run's pictures are shared out.

    Attributes:
        data: which pictures.
        public: the fraction of the training pictures that is public, in [0, 1); where it is 0, nothing is public and
            no picture is transposed.
        held_out: what of a data set without a test split nobody trains on; None for nothing.
    """

    data: DataConfig
    public: float
    held_out: HeldOut | None = field(default_factory=HeldOut)

    def public_images(self) -> ImageSet:
        """The public pictures, as the data set has them.

        Raises:
            DataError: there are none, or the data set is not there.
        """
        return training_images(self.data, lambda labels, _: torch.arange(self._public_count(labels)), self.held_out)

    def site_data(self, regime: PartitionConfig, site: SiteContext, own: ImageSet | None = None) -> CmtiiSiteData:
        """A site's pictures: its share of the private pictures, or all of its own; oriented alike in both cases.

        Raises:
            DataError: the data set is not there, or cannot be divided so.
        """
        share = self._private(chooser(regime, site)) if own is None else self._oriented(own)
        return CmtiiSiteData(*local_parts(share, regime, site))

    def pooled(self, regime: PartitionConfig, sites: int, seed: int) -> ImageSet:
        """The training pictures of all sites that share the run's data: for the centralised baseline."""
        places = [SiteContext("everybody", index, sites, seed, "cpu", Path()) for index in range(sites)]
        parts = [self.site_data(regime, place).train for place in places]
        images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
        return ImageSet(images, labels, parts[0].classes)

    def oriented(self, splits: Splits) -> Splits:
        """Measuring pictures, oriented as the sites'."""
        return Splits(splits.train, *(self._oriented(part) for part in (splits.judge, splits.test)))

    def share_counts(self, regime: PartitionConfig, site: SiteContext) -> tuple[int, ...]:
        """How many pictures of each class there are in a site's share of the private ones; reads none.

        Raises:
            DataError: as `site_data`.
        """
        return class_counts(training_labels(self.data, self._among_private(chooser(regime, site)), self.held_out))

    def _private(self, choose: Choose) -> ImageSet:
        return self._oriented(training_images(self.data, self._among_private(choose), self.held_out))

    def _among_private(self, choose: Choose) -> Choose:
        def positions(labels: Tensor, classes: tuple[str, ...]) -> Tensor:
            first = self._public_count(labels)
            return first + choose(labels[first:], classes)

        return positions

    def _oriented(self, pictures: ImageSet) -> ImageSet:
        return transposed(pictures) if self.public else pictures

    def _public_count(self, labels: Tensor) -> int:
        border = round(self.public * len(labels))
        if self.public and not 0 < border < len(labels):
            raise DataError(
                f"backend.public {self.public:g} of {len(labels)} training pictures leaves none on one side: change it"
            )
        return border
