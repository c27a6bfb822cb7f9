"""The built-in data sets, as values; `fednet.data.sources` reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fednet.data.contract import Dataset

if TYPE_CHECKING:
    from fednet.data.config import DataConfig
    from fednet.data.pools import DataSource

EXTRA: Final = "fednet[images]"


def _digits(config: DataConfig) -> DataSource:
    from fednet.data.sources import digits  # noqa: PLC0415 - imports torch, as all below

    return digits(config)


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


def _folder(config: DataConfig) -> DataSource:
    from fednet.data.sources import folder  # noqa: PLC0415

    return folder(config)


TORCHVISION: Final = ("torchvision",)
DIGITS = Dataset("digits", "scikit-learn's 1,797 digits, 8 x 8", _digits, "none", EXTRA, ("sklearn",))
MNIST = Dataset("mnist", "28 x 28, IDX files in root/MNIST/raw", _mnist, "required", EXTRA, TORCHVISION)
CIFAR10 = Dataset("cifar10", "root/cifar-10-batches-py", _cifar10, "required", EXTRA, TORCHVISION)
CIFAR100 = Dataset("cifar100", "root/cifar-100-python", _cifar100, "required", EXTRA, TORCHVISION)
TINY_IMAGENET = Dataset(
    "tiny-imagenet", "64 x 64, root/{train,val} as tiny-imagenet-200.zip unpacks", _tiny_imagenet, "required",
    EXTRA, TORCHVISION,
)  # fmt: skip
FOLDER = Dataset("folder", "root/{train,test}/<class>/* or root/<class>/*", _folder, "required", EXTRA, TORCHVISION)
