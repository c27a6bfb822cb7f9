"""Which pictures are public, which a site has for itself, and which nobody learns from.

The embedded models come from a public part of the run's training pictures, which lie in many ways but one; the sites
share the rest, and theirs lie in that one way, as do the pictures that measure them. Models of the world at large need
no public part: then the sites share all training pictures, as they are. Knows no model and no network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fednet.api import SiteContext
from fednet.data.config import DataConfig, PartitionConfig
from fednet.data.datasets import ImageSet, Splits, load, training_share
from fednet.data.orientations import transposed
from fednet.data.partition import partition
from fednet.data.site_data import local_parts
from fednet.errors import DataError


@dataclass(frozen=True)
class CmtiiSiteData:
    """The pictures of a site.

    Attributes:
        train: what it learns from.
        test: what it tests itself with; empty where partition.train_ratio is 1.
    """

    train: ImageSet
    test: ImageSet


@dataclass(frozen=True)
class CmtiiDataSplit:
    """How the run's pictures are shared out.

    Attributes:
        data: which pictures.
        public: the fraction of the training pictures that is public, in [0, 1); where it is 0, nothing is public and
            no picture is transposed.
    """

    data: DataConfig
    public: float

    def common(self) -> ImageSet:
        """The public pictures, as the data set has them.

        Raises:
            DataError: there are none, or the data set is not there.
        """
        return training_share(self.data, lambda labels: torch.arange(self._border(labels)))

    def holdings(self, regime: PartitionConfig, site: SiteContext, own: ImageSet | None = None) -> CmtiiSiteData:
        """What a site has: its share of the private pictures, or pictures of its own, kept as they are.

        Raises:
            DataError: the data set is not there, or cannot be divided so.
        """
        share = (
            own
            if own is not None
            else self._private(lambda found: partition(found, regime, site.count, site.seed)[site.index])
        )
        return CmtiiSiteData(*local_parts(share, regime, site))

    def pooled(self, regime: PartitionConfig, sites: int, seed: int) -> ImageSet:
        """What all sites that share the run's pictures train on, taken together: for a bound that no site reaches."""
        places = [SiteContext("everybody", index, sites, seed, "cpu", Path()) for index in range(sites)]
        parts = [self.holdings(regime, place).train for place in places]
        images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
        return ImageSet(images, labels, parts[0].classes)

    def measures(self) -> Splits:
        """The pictures that nobody learns from, as the sites' pictures lie."""
        splits = load(self.data)
        return Splits(splits.train, *(self._lying(part) for part in (splits.judge, splits.test)))

    def _private(self, choose: Callable[[Tensor], Tensor]) -> ImageSet:
        def positions(labels: Tensor) -> Tensor:
            first = self._border(labels)
            return first + choose(labels[first:])

        return self._lying(training_share(self.data, positions))

    def _lying(self, pictures: ImageSet) -> ImageSet:
        return transposed(pictures) if self.public else pictures

    def _border(self, labels: Tensor) -> int:
        border = round(self.public * len(labels))
        if self.public and not 0 < border < len(labels):
            raise DataError(
                f"backend.public {self.public:g} of {len(labels)} training pictures leaves none on one side: change it"
            )
        return border
