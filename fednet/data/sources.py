"""Reads the built-in data sets: one function each, which gives pools of labels and a way to read images.

Nothing is downloaded. torchvision's CIFAR files are pickles: it compares them with known digests before it opens them,
anything else is refused unread. MNIST is read by torchvision's IDX reader alone. scikit-learn and torchvision are
imported by what needs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fednet.data.config import DataConfig
from fednet.data.image_folder import list_folder, root_of
from fednet.data.listing import ImageListing, ImageRef
from fednet.data.outline import open_listings, readable
from fednet.data.pools import DataSource, ImagePool, conform, stack
from fednet.errors import DataError
from fednet.images import from_bytes

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

READ_ERRORS = (OSError, RuntimeError, ValueError, AssertionError, KeyError, EOFError, SyntaxError)
"""What torchvision and Pillow raise at files that are missing or malformed."""


def digits(config: DataConfig) -> DataSource:
    """scikit-learn's 1,797 digits (UCI, Alpaydin and Kaynak), 8 x 8, values 0 to 16; no split of their own."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - of the extra `images`

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.float32).unsqueeze(1) / 8 - 1
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    return DataSource(ImagePool(labels, _numerals(), lambda indices: conform(images[indices], config)))


def mnist(config: DataConfig) -> DataSource:
    """MNIST (LeCun, Cortes, Burges): 28 x 28, the four IDX files in root/MNIST/raw."""
    return DataSource(_idx(config, "train"), _idx(config, "t10k"))


def cifar10(config: DataConfig) -> DataSource:
    """CIFAR-10 (Krizhevsky 2009): 32 x 32 in colour, the Python version in root/cifar-10-batches-py."""
    from torchvision.datasets import CIFAR10  # noqa: PLC0415 - of the extra `images`

    return _cifar(config, CIFAR10, "cifar-10-batches-py")


def cifar100(config: DataConfig) -> DataSource:
    """CIFAR-100 (Krizhevsky 2009): 32 x 32 in colour, the Python version in root/cifar-100-python."""
    from torchvision.datasets import CIFAR100  # noqa: PLC0415 - of the extra `images`

    return _cifar(config, CIFAR100, "cifar-100-python")


def tiny_imagenet(config: DataConfig) -> DataSource:
    """Tiny ImageNet (Stanford CS231n): 64 x 64 in colour, 200 classes, as tiny-imagenet-200.zip unpacks.

    train/<wnid>/images/*.JPEG, val/images/*.JPEG with their classes in val/val_annotations.txt, and names in
    words.txt; where that is missing, the classes are called by their WordNet numbers. test/ has no labels and is left.
    """
    root, channels = root_of(config), config.channels or 3  # a few of the images are grey
    train = readable(config, _with_classes(root / "train"))
    annotated = _annotated(root / "val", {wnid: label for label, wnid in enumerate(train.classes)})
    names = _words(root / "words.txt", train.classes)
    return DataSource(_files(config, train.labelled, names, channels), _files(config, annotated, names, channels))


def read_listings(config: DataConfig, listings: Mapping[str, ImageListing]) -> DataSource:
    """The images of listings: of all of a data set, or of its `train` and `test`.

    Raises:
        DataError: see `open_listings`; or an image cannot be read.
    """
    opened = open_listings(config, listings)
    parts = [part for part in (opened.train, opened.test) if part is not None]
    return DataSource(*(_files(config, part.labelled, part.classes, opened.channels) for part in parts))


def _numerals() -> tuple[str, ...]:
    return tuple(str(digit) for digit in range(10))


def _idx(config: DataConfig, stem: str) -> ImagePool:
    from torchvision.datasets.mnist import read_image_file, read_label_file  # noqa: PLC0415 - of the extra `images`

    raw = root_of(config) / "MNIST" / "raw"
    try:
        images = read_image_file(str(raw / f"{stem}-images-idx3-ubyte"))
        labels = read_label_file(str(raw / f"{stem}-labels-idx1-ubyte"))
    except READ_ERRORS as error:
        raise DataError(
            f"mnist: cannot read {stem}-images-idx3-ubyte and {stem}-labels-idx1-ubyte in {raw} ({error}); expected "
            "the four unpacked IDX files there: nothing is downloaded"
        ) from error
    if len(images) != len(labels):
        raise DataError(f"mnist: {raw} holds {len(images)} {stem} images but {len(labels)} labels")
    return ImagePool(labels, _numerals(), lambda indices: conform(from_bytes(images[indices].unsqueeze(1)), config))


def _cifar(config: DataConfig, kind: type[CIFAR10], inner: str) -> DataSource:
    root = root_of(config)
    try:
        parts = [kind(str(root), train=train, download=False) for train in (True, False)]
    except READ_ERRORS as error:
        raise DataError(
            f"{config.name}: {root / inner} is missing or damaged; expected the unpacked Python version there: nothing "
            "is downloaded. For pictures in one folder per class set data.name=folder"
        ) from error
    train, test = (_array(config, part) for part in parts)
    return DataSource(train, test)


def _array(config: DataConfig, part: CIFAR10) -> ImagePool:
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2)
    labels = torch.tensor(part.targets, dtype=torch.int64)
    return ImagePool(labels, tuple(part.classes), lambda indices: conform(from_bytes(images[indices]), config))


def _with_classes(path: Path) -> ImageListing:
    """The images of a folder, which must have classes."""
    listing = list_folder(path)
    if not listing.classes:
        raise DataError(f"{path} does not hold pictures in one folder per class; expected {path}/<class>/*.JPEG")
    return listing


def _annotated(val: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
    """Tiny ImageNet's validation pictures with their labels."""
    notes = val / "val_annotations.txt"
    try:
        rows = [line.split("\t") for line in notes.read_text(encoding="utf-8").splitlines() if line]
        return [(val / "images" / row[0], labels[row[1]]) for row in rows]
    except (OSError, ValueError, LookupError) as error:
        raise DataError(
            f"tiny-imagenet: {notes} is missing or malformed ({error!r}); expected a line of "
            "file name, class and box, parted by tabs, for each picture in val/images"
        ) from error


def _words(path: Path, wnids: tuple[str, ...]) -> tuple[str, ...]:
    """The first name of each WordNet number, with the number behind it where two classes share a name."""
    if not path.is_file():
        return wnids
    try:
        rows = [line.partition("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        words = {wnid: names.partition(",")[0].strip() for wnid, _, names in rows if names}
        first = [words[wnid] for wnid in wnids]
    except (OSError, ValueError, LookupError) as error:
        raise DataError(
            f"tiny-imagenet: {path} is malformed ({error!r}); expected a line of class and names, parted by a tab, "
            "for each class; without that file the classes are called by their numbers"
        ) from error
    pairs = zip(first, wnids, strict=True)
    return tuple(name if first.count(name) == 1 else f"{name} ({wnid})" for name, wnid in pairs)


def _files(
    config: DataConfig, labelled: Sequence[tuple[ImageRef, int]], classes: tuple[str, ...], channels: int
) -> ImagePool:
    """Images that are read when they are asked for."""
    images = [image for image, _ in labelled]
    labels = torch.tensor([label for _, label in labelled], dtype=torch.int64)
    return ImagePool(labels, classes, lambda indices: stack([images[int(k)] for k in indices], config, channels))
