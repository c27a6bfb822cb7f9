"""The built-in data sets, as values; `fednet.data.sources` reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from fednet.data.contract import DataOutline, Dataset
from fednet.plugins import lazily

if TYPE_CHECKING:
    from fednet.data.config import DataConfig
    from fednet.data.pools import DataSource

EXTRA: Final = "fednet[images]"


def _digits(config: DataConfig) -> DataSource:
    from fednet.data.sources import digits  # noqa: PLC0415 - imports torch, as all below

    return digits(config)


def _digits_outline(config: DataConfig) -> DataOutline:
    side = config.size or 8
    return DataOutline(tuple(map(str, range(10))), (config.channels or 1, side, side))


def _mnist(config: DataConfig) -> DataSource:
    from fednet.data.sources import mnist  # noqa: PLC0415

    return mnist(config)


def _cifar10(config: DataConfig) -> DataSource:
    from fednet.data.sources import cifar10  # noqa: PLC0415

    return cifar10(config)


def _cifar100(config: DataConfig) -> DataSource:
    from fednet.data.sources import cifar100  # noqa: PLC0415

    return cifar100(config)


def _tiny_imagenet(config: DataConfig) -> DataSource:
    from fednet.data.sources import tiny_imagenet  # noqa: PLC0415

    return tiny_imagenet(config)


def _listed(
    name: str, summary: str, place: str, *, root: Literal["required", "optional"] = "required", extra: str = EXTRA,
    requires: tuple[str, ...] = ("torchvision",), keys: tuple[str, ...] = (),
) -> Dataset:  # fmt: skip
    """A data set that lists its images; the function at `place` does."""
    listings = lazily(place)

    def read(config: DataConfig) -> DataSource:
        from fednet.data.sources import read_listings  # noqa: PLC0415

        return read_listings(config, listings(config))

    return Dataset(name, summary, read, root, extra, requires, keys, listings)


TORCHVISION: Final = ("torchvision",)
DIGITS = Dataset(
    "digits", "scikit-learn's 1,797 digits, 8 x 8", _digits, "none", EXTRA, ("sklearn",), outline=_digits_outline
)
MNIST = Dataset("mnist", "28 x 28, IDX files in root/MNIST/raw", _mnist, "required", EXTRA, TORCHVISION)
CIFAR10 = Dataset("cifar10", "root/cifar-10-batches-py", _cifar10, "required", EXTRA, TORCHVISION)
CIFAR100 = Dataset("cifar100", "root/cifar-100-python", _cifar100, "required", EXTRA, TORCHVISION)
TINY_IMAGENET = Dataset(
    "tiny-imagenet", "64 x 64, root/{train,val} as tiny-imagenet-200.zip unpacks", _tiny_imagenet, "required",
    EXTRA, TORCHVISION,
)  # fmt: skip
FOLDER = _listed("folder", "root/{train,test}/<class>/* or root/<class>/*", "fednet.data.image_folder:folder_listings")
TABLE = _listed(
    "table", "root/*.csv or *.jsonl with columns path, label, split", "fednet.data.tables:table_listings",
    keys=("file", "columns"),
)  # fmt: skip
HUGGING_FACE = _listed(
    "hugging-face", "root as `save_to_disk` of `datasets` writes it", "fednet.data.arrow_folder:arrow_listings",
    extra="fednet[datasets]", requires=("torchvision", "datasets"), keys=("columns",),
)  # fmt: skip
PYTHON = _listed(
    "python", "what object (pkg.mod:factory) makes, a torch Dataset", "fednet.data.python_dataset:python_listings",
    root="optional", keys=("object", "options", "columns"),
)  # fmt: skip
