"""Lists the image files of a folder and the classes that its folders name; reads no pixel.

What systems leave behind (hidden names, `__MACOSX`, `Thumbs.db`) and folders without an image are no classes and no
images. Names of classes are in Unicode's composed form (NFC): some file systems decompose them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fednet.data.classes import sorted_classes
from fednet.data.config import DataConfig
from fednet.data.image_files import is_image_file
from fednet.data.listing import ImageListing, class_name
from fednet.errors import DataError
from fednet.text import plain_text

LEFT_BY_SYSTEMS = frozenset(
    {"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini"}
)
_OWN_FILES = frozenset({"folder", "hugging-face", "table"})
"""Data sets whose root holds files of the operator's, not those that others publish under the data set's name."""


def list_folder(folder: Path) -> ImageListing:
    """The images in a folder: one folder per class, at any depth within it, or images without classes.

    Raises:
        DataError: the folder or one below it cannot be read.
    """
    unsorted, by_class, empty, others = list[Path](), dict[str, list[Path]](), list[str](), Counter[str]()
    for path, is_folder in _entries(folder):
        if not is_folder:
            _file_into(path, unsorted, others)
            continue
        images = list[Path]()
        for file in _files_below(path, ()):
            _file_into(file, images, others)
        if images:
            by_class.setdefault(_class_name(path), []).extend(sorted(images, key=_place))
        else:
            empty.append(_class_name(path))
    ordered = {name: tuple(by_class[name]) for name in sorted_classes(by_class)}
    return ImageListing(ordered, tuple(unsorted), tuple(empty), dict(others))


def folder_parts(root: Path) -> dict[str, Path]:
    """The folders whose folders are classes: `train` and `test` where both are there, else `all`, the folder itself.

    Raises:
        DataError: there is a train/ with classes, but no test/; or one cannot be read.
    """
    train, test = root / "train", root / "test"
    if not is_folder(train):
        return {"all": root}
    if is_folder(test):
        return {"train": train, "test": test}
    if list_folder(train).classes:
        raise DataError(f"{train} holds classes, but there is no {test}: set data.root to {train}, or add {test}")
    return {"all": root}  # a class that is called train


def folder_listings(config: DataConfig) -> dict[str, ImageListing]:
    """Any image files, one folder per class: root/{train,test}/<class>/* or root/<class>/*; without labels: root/*."""
    return {part: list_folder(path) for part, path in folder_parts(root_of(config)).items()}


def root_of(config: DataConfig) -> Path:
    """The folder of the data set, `~` expanded.

    Raises:
        DataError: there is no such folder, or it cannot be read.
    """
    root = (config.root or Path()).expanduser()
    if not is_folder(root):
        named = "the folder that holds the images" if config.name in _OWN_FILES else config.name
        raise DataError(f"data.root: {root} is not a folder; expected {named} there: nothing is downloaded")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"data.root: {root} cannot be read: this process has no permission")
    return root


def is_folder(path: Path) -> bool:
    """Whether there is a folder at this path.

    Raises:
        DataError: it is hidden from this process.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise _unreadable(path, error) from error


def _file_into(path: Path, images: list[Path], others: Counter[str]) -> None:
    if is_image_file(path):
        images.append(path)
    else:
        others[plain_text(path.suffix.lower()) or "no ending"] += 1


def _files_below(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """All files, through links as well; a link to a folder that it lies in is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for path, deeper in _entries(folder):
        if deeper:
            yield from _files_below(path, (*above, real))
        else:
            yield path


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """What a folder holds, in order of names, and whether it is a folder; without what systems leave behind.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise _unreadable(folder, error) from error
    return [(folder / name, deeper) for name, deeper in found if not _is_left_by_system(name)]


def _is_left_by_system(name: str) -> bool:
    return name.startswith(".") or name in LEFT_BY_SYSTEMS


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read: {error.strerror or error}")


def _place(path: Path) -> tuple[str, str]:
    return str(path.parent), path.name


def _class_name(folder: Path) -> str:
    return class_name(os.fsencode(folder.name).decode("utf-8", "replace"))
