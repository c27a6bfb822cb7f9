"""A site's training data: its share of the run's data set, or a data set of its own.

A node's configuration may replace keys of `data`. A site with its own data set keeps all of its training images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fednet.data.config import DataConfig, PartitionConfig
from fednet.errors import DataError

if TYPE_CHECKING:
    from fednet.api import SiteContext
    from fednet.data.datasets import ImageSet


def site_data_config(common: DataConfig, own: Mapping[str, Any] | None = None) -> DataConfig:
    """The run's data, or a site's: `own` may have `data`, keys that replace those of `common`.

    Raises:
        DataError: the site's own data is not configured properly.
    """
    keys = (own or {}).get("data") or {}
    try:
        return DataConfig.model_validate({**common.model_dump(), **keys})
    except ValidationError as error:
        raise DataError(f"invalid data of its own, {dict(keys)}: {error}") from error


def own_data(common: DataConfig, own: Mapping[str, Any] | None = None) -> tuple[DataConfig, ImageSet | None]:
    """A site's data, and all training pictures of it where they are its own; None where it gets a share of the run's.

    Raises:
        DataError: the site's own data is not configured properly or not there.
    """
    if not (own or {}).get("data"):
        return common, None
    import torch  # noqa: PLC0415 - as the next: seconds that a look at a configuration need not wait for

    from fednet.data.datasets import training_share  # noqa: PLC0415

    data = site_data_config(common, own)
    return data, training_share(data, lambda labels: torch.arange(len(labels)))


def run_share(data: DataConfig, regime: PartitionConfig, site: SiteContext) -> ImageSet:
    """What a site trains on of its share of the run's data; nothing of other sites is read.

    Raises:
        DataError: the data is not there, or cannot be divided so.
    """
    return run_parts(data, regime, site)[0]


def run_parts(data: DataConfig, regime: PartitionConfig, site: SiteContext) -> tuple[ImageSet, ImageSet]:
    """A site's share of the run's data, as what it trains on and what it tests itself with.

    Raises:
        DataError: as `run_share`.
    """
    from fednet.data.datasets import training_share  # noqa: PLC0415 - as above
    from fednet.data.partition import partition  # noqa: PLC0415

    share = training_share(data, lambda labels: partition(labels, regime, site.count, site.seed)[site.index])
    return local_parts(share, regime, site)


def local_parts(share: ImageSet, regime: PartitionConfig, site: SiteContext) -> tuple[ImageSet, ImageSet]:
    """A site's pictures, of the run or of its own, as what it trains on and what it tests itself with.

    The test part is empty where `train_ratio` is 1.
    """
    from fednet.data.local_split import train_and_test  # noqa: PLC0415 - as above

    train, test = train_and_test(share.labels, regime.train_ratio, site.seed, site.index)
    return share.subset(train), share.subset(test)


def check_data(common: DataConfig, own: Mapping[str, Any] | None = None) -> None:
    """Looks whether the data, those of a site with `own`, are where they are said to be; reads no picture.

    Raises:
        DataError: they are not, or they are malformed.
    """
    data = site_data_config(common, own)
    if data.root is None:
        return  # they come with a library
    from fednet.data.datasets import require  # noqa: PLC0415 - a second that most configurations need not wait for

    require(data)
