"""A site's training data: its share of the run's data set, or a data set of its own.

A node's configuration may replace keys of `data`. A site with its own data set keeps all of its training images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fednet.data.config import DataConfig, HeldOut, PartitionConfig
from fednet.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from fednet.api import SiteContext
    from fednet.data.datasets import Choose, ImageSet


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


def own_data(common: DataConfig, own: Mapping[str, Any] | None = None) -> DataConfig | None:
    """A site's own data set; None where it gets a share of the run's.

    Raises:
        DataError: the site's own data is not configured properly.
    """
    return site_data_config(common, own) if (own or {}).get("data") else None


def run_share(
    data: DataConfig, regime: PartitionConfig, site: SiteContext, held_out: HeldOut | None = None
) -> ImageSet:
    """What a site trains on of its share of the run's data; nothing of other sites is read.

    Args:
        data: the run's.
        regime: how it is divided among the sites.
        site: which site.
        held_out: what no site gets, since it is measured with; None for nothing.

    Raises:
        DataError: the data is not there, or cannot be divided so.
    """
    return run_parts(data, regime, site, held_out)[0]


def run_parts(
    data: DataConfig, regime: PartitionConfig, site: SiteContext, held_out: HeldOut | None = None
) -> tuple[ImageSet, ImageSet]:
    """A site's share of the run's data, as what it trains on and what it tests itself with.

    Raises:
        DataError: as `run_share`.
    """
    from fednet.data.datasets import training_images  # noqa: PLC0415 - imports torch, as below

    return local_parts(training_images(data, chooser(regime, site), held_out), regime, site)


def run_counts(
    data: DataConfig, regime: PartitionConfig, site: SiteContext, held_out: HeldOut | None = None
) -> tuple[int, ...]:
    """How many pictures of each class `run_share` would read; reads none.

    Raises:
        DataError: as there.
    """
    from fednet.data.datasets import class_counts, training_labels  # noqa: PLC0415 - as above
    from fednet.data.local_split import train_and_test  # noqa: PLC0415 - as above

    labels = training_labels(data, chooser(regime, site), held_out)
    trained, _ = train_and_test(labels.clamp(min=0), regime.train_ratio, site.seed, site.index)
    return class_counts(labels[trained])


def own_counts(data: DataConfig) -> tuple[int, ...]:
    """How many training pictures of each class a data set has; reads none.

    Raises:
        DataError: it is missing or malformed.
    """
    from fednet.data.datasets import class_counts, training_labels  # noqa: PLC0415 - as above

    return class_counts(training_labels(data))


def chooser(regime: PartitionConfig, site: SiteContext) -> Choose:
    """What chooses a site's share of labelled pictures; pictures without labels are divided as if of one class."""
    from fednet.data.partition import partition  # noqa: PLC0415 - as above

    def choose(labels: Tensor, classes: tuple[str, ...]) -> Tensor:
        return partition(labels.clamp(min=0), regime, site.count, site.seed, classes)[site.index]

    return choose


def local_parts(share: ImageSet, regime: PartitionConfig, site: SiteContext) -> tuple[ImageSet, ImageSet]:
    """A site's pictures, of the run or of its own, as what it trains on and what it tests itself with.

    The test part is empty where `train_ratio` is 1.
    """
    from fednet.data.local_split import train_and_test  # noqa: PLC0415 - as above

    train, test = train_and_test(share.labels.clamp(min=0), regime.train_ratio, site.seed, site.index)
    return share.subset(train), share.subset(test)


def check_data(common: DataConfig, own: Mapping[str, Any] | None = None) -> None:
    """Looks whether the data, those of a site with `own`, are where they are said to be; reads no picture.

    Raises:
        DataError: they are not, or they are malformed.
    """
    data = site_data_config(common, own)
    if data.root is None and data.object is None:
        return  # they come with a library
    from fednet.data.outline import require  # noqa: PLC0415 - NumPy and Pillow, which help texts need not wait for

    require(data)
