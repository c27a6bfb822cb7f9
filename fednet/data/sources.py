"""Reads the built-in data sets: one function each, which gives pools of labels and a way to read images.

Nothing is downloaded. torchvision's CIFAR files are pickles: it compares them with known digests before it opens them,
anything else is refused unread. MNIST is read by torchvision's IDX reader alone. scikit-learn and torchvision are
imported by what needs them.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fednet.data.config import DataConfig
from fednet.data.image_files import is_colour
from fednet.data.image_folder import FolderListing, folder_parts, is_folder, list_folder
from fednet.data.inspection import inspect_files
from fednet.data.pools import DataSource, ImagePool, conform, stack
from fednet.errors import DataError
from fednet.images import from_bytes

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

_log = logging.getLogger(__name__)
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
    train = _readable(config, _with_classes(root / "train"))
    annotated = _annotated(root / "val", {wnid: label for label, wnid in enumerate(train.classes)})
    names = _words(root / "words.txt", train.classes)
    return DataSource(_files(config, train.labelled, names, channels), _files(config, annotated, names, channels))


def folder(config: DataConfig) -> DataSource:
    """Any images, one folder per class: root/{train,test}/<class>/* or root/<class>/*; without labels: root/*."""
    listings = [_readable(config, _with_images(path)) for path in folder_parts(root_of(config)).values()]
    if odd := sorted(set(listings[0].classes) ^ set(listings[-1].classes)):
        raise DataError(f"{config.root}: train and test must hold the same classes; these are in one only: {odd[:10]}")
    files = [path for listing in listings for path, _ in listing.labelled]
    channels = config.channels or (3 if any(map(is_colour, files)) else 1)
    return DataSource(*(_files(config, listing.labelled, listing.classes, channels) for listing in listings))


def root_of(config: DataConfig) -> Path:
    """The folder of the data set, `~` expanded.

    Raises:
        DataError: there is no such folder, or it cannot be read.
    """
    root = (config.root or Path()).expanduser()
    if not is_folder(root):
        raise DataError(f"data.root: {root} is not a folder; expected {config.name} there: nothing is downloaded")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"data.root: {root} cannot be read: this process has no permission")
    return root


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


def _with_images(path: Path) -> FolderListing:
    """The images of a folder, of which there must be some."""
    listing = list_folder(path)
    if not listing.labelled:
        raise DataError(
            f"{path} holds no images; expected {path}/<class>/*.png, .jpg and the like, or {path}/*.png without labels"
        )
    return listing


def _with_classes(path: Path) -> FolderListing:
    """The images of a folder, which must have classes."""
    listing = list_folder(path)
    if not listing.classes:
        raise DataError(f"{path} does not hold pictures in one folder per class; expected {path}/<class>/*.JPEG")
    return listing


def _readable(config: DataConfig, listing: FolderListing) -> FolderListing:
    """The files of a listing; with `unreadable: skip` those that can be read.

    Raises:
        DataError: none of them can.
    """
    if config.unreadable == "refuse":
        return listing
    refused = inspect_files((path for path, _ in listing.labelled), config).refused
    if not refused:
        return listing
    _log.warning("%d of %d image files are left out; the first: %s", len(refused), len(listing.labelled), refused[0])
    kept = listing.without(error.path for error in refused)
    if not kept.classes:
        raise DataError(f"{config.root}: none of {len(refused)} image files can be read; the first: {refused[0]}")
    return kept


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


def _files(config: DataConfig, labelled: list[tuple[Path, int]], classes: tuple[str, ...], channels: int) -> ImagePool:
    """Images in files, which are read when they are asked for."""
    paths = [path for path, _ in labelled]
    if not paths:
        raise DataError(f"{config.name}: no pictures below {root_of(config)}")
    labels = torch.tensor([label for _, label in labelled], dtype=torch.int64)
    return ImagePool(labels, classes, lambda indices: stack([paths[int(k)] for k in indices], config, channels))
